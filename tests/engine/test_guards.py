"""What ends a run before or during training, and what is left out of it."""

from __future__ import annotations

import copy
import math
import socket
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from custom.engine import (
    ClassCheckHook,
    FiniteLossOptimWrapper,
    ModelBudgetHook,
    NonFiniteLossHook,
    ScheduleCheckHook,
)
from custom.engine.guards import count_parameters
from custom.errors import InputError


class Toy(BaseModel):
    """The loss is ``linear(x)``, to which the first input is added as it is."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()

    def forward(self, inputs, data_samples=None, mode="loss"):
        x = torch.stack(inputs)
        return {
            "loss_cls": self.linear(self.norm(x[:, 1:])).mean(),
            "loss_mask": x[:, 0].mean(),
        }


def batch(first: float, name: str, second: float = 1.0) -> dict:
    inputs = [torch.tensor([first, second, i + 2.0]) for i in range(2)]
    samples = [DetDataSample(metainfo={"img_path": f"{name}{i}.tif"}) for i in range(2)]
    return {"inputs": inputs, "data_samples": samples}


def train(
    tmp_path,
    batches,
    max_skips=5,
    model=None,
    kind="FiniteLossOptimWrapper",
    guard="NonFiniteLossHook",
    **options,
):
    """A runner that has taken these batches, and what was at each step."""
    runner = Runner(
        model=model or Toy(),
        work_dir=str(tmp_path),
        train_dataloader={
            "dataset": batches,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": lambda items: items[0],
            "batch_size": 1,
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={
            "type": kind,
            "optimizer": {"type": "AdamW", "lr": 0.1},
            **options,
        },
        custom_hooks=[
            {"type": guard, "max_skips": max_skips},
            {"type": "EMAHook", "momentum": 0.5},
        ],
        default_hooks={"checkpoint": None},
        experiment_name=tmp_path.name,
    )
    states = []

    class Spy(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            state = runner.model.state_dict(), runner.optim_wrapper.state_dict()
            states.append(copy.deepcopy(state))

    runner.register_hook(Spy(), "VERY_HIGH")
    runner.train()
    return runner, states


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_without_a_finite_loss_changes_nothing_and_is_named(
    value, tmp_path, caplog
):
    batches = [batch(0, "a"), batch(value, "bad"), batch(0, "c")]
    runner, states = train(tmp_path, batches, clip_grad={"max_norm": 1})
    first, second, third = states
    for before, after in zip(first, second, strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert (third[0]["linear.weight"] != second[0]["linear.weight"]).all()
    assert runner.message_hub.get_info("skipped_batches") == 1
    (ema,) = (hook for hook in runner.hooks if hasattr(hook, "ema_model"))
    assert all(v.isfinite().all() for v in ema.ema_model.state_dict().values())
    log = next(tmp_path.rglob("*.log")).read_text()
    assert f"loss_mask {value}" in log and "bad0.tif, bad1.tif" in log
    assert "a0.tif" not in log and "1 of at most 5" in log


def test_a_wrapper_that_steps_on_any_loss_is_refused(tmp_path):
    with pytest.raises(InputError, match="Use FiniteLossOptimWrapper"):
        train(tmp_path, [batch(0, "a")], kind="OptimWrapper")


def test_one_more_than_the_limit_ends_the_run(tmp_path):
    bad = [batch(math.nan, name) for name in "abc"]
    train(tmp_path / "1", bad[:2], max_skips=2)
    with pytest.raises(InputError, match=r"c0.tif, c1.tif.*loss_mask nan.*3 batches"):
        train(tmp_path / "2", bad, max_skips=2)


def test_a_model_that_is_not_finite_itself_ends_the_run_at_once(tmp_path):
    # Batch norm takes the input into its running mean before there is a loss.
    with pytest.raises(InputError, match=r"nor is norm.running_mean of the model"):
        train(tmp_path, [batch(0, "a", math.nan)], model=Toy(norm=True))


@pytest.mark.parametrize("bad", range(4))
def test_a_window_of_accumulation_with_a_bad_batch_is_dropped(bad, tmp_path):
    """The next step is that of its own four batches, not 1.75 times as large."""
    batches = [batch(0, name) for name in "abcdefgh"]
    batches[bad] = batch(math.nan, "bad")
    sgd = {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 4}
    _, states = train(tmp_path, batches, **sgd)
    bias = [state[0]["linear.bias"].item() for state in states]
    # The gradient of the bias is one.
    assert bias[3] == bias[0]
    assert bias[7] == pytest.approx(bias[0] - 0.1)


def _two_processes(rank: int, port: int) -> None:
    torch.distributed.init_process_group(
        "gloo",
        f"tcp://127.0.0.1:{port}",
        timeout=timedelta(seconds=100),  # who waits in vain shall fail
        world_size=2,
        rank=rank,
    )
    torch.manual_seed(0)
    model = MMDistributedDataParallel(Toy(), device_ids=None)
    wrapper = FiniteLossOptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1))
    hook = NonFiniteLossHook(max_skips=0)

    class Run:
        optim_wrapper = wrapper
        message_hub = MessageHub(f"process {rank}")

    Run.model = model
    hook.before_train(Run)
    start = copy.deepcopy(model.state_dict())
    # Process 1 has the bad batch.
    data = batch(math.nan if rank else 0, f"rank{rank}_")
    outputs = model.train_step(data, wrapper)
    assert wrapper.left_out
    torch.testing.assert_close(model.state_dict(), start, rtol=0, atol=0)
    with pytest.raises(InputError, match="rank1_0") as error:
        hook.after_train_iter(Run, 0, data, outputs)
    assert "rank0" not in str(error.value)
    # And the next step is taken by both.
    model.train_step(batch(0, "c"), wrapper)
    assert not torch.equal(model.module.linear.weight, start["module.linear.weight"])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_all_processes_leave_out_the_bad_batch_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_two_processes, (port,), nprocs=2)


def test_the_budget_counts_trainable_parameters_and_no_buffers():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    assert count_parameters(model) == (32 + 16 + 18, 16 + 18)
    run = SimpleNamespace(model=model, cfg=SimpleNamespace(filename="configs/a.py"))
    ModelBudgetHook(limit=35).before_train(run)
    with pytest.raises(InputError, match=r"configs/a.py: 34 trainable.*fewer than 34"):
        ModelBudgetHook(limit=34).before_train(run)


class Head(nn.Module):
    """A head of some classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes


@pytest.mark.parametrize(
    ("classes", "box", "mask", "fits"),
    [(3, 3, 3, True), (3, 4, 4, False), (5, 3, 3, False), (3, 3, 4, False)],
)
def test_heads_are_compared_with_the_classes_before_training(classes, box, mask, fits):
    model = nn.ModuleDict(
        {"bbox_head": Head(box), "mask_head": Head(mask), "rpn_head": Head(1)}
    )
    names = tuple(f"class{i}" for i in range(classes))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": names}))
    run = SimpleNamespace(
        model=model,
        train_dataloader=loader,
        val_loop=None,
        cfg=SimpleNamespace(filename="a.py"),
    )
    if fits:
        ClassCheckHook().before_train(run)
        return
    with pytest.raises(InputError, match=r"a.py: .*num_classes.*Set num_classes"):
        ClassCheckHook().before_train(run)


def schedule(run_length: dict, **cosine) -> list[float]:
    """The learning rates of a run of the schedule of configs/_base_."""
    (unit, length), *_ = run_length.items()
    by_epoch = unit == "max_epochs"
    model = Toy()
    wrapper = FiniteLossOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    run = SimpleNamespace(
        cfg=Config({"train_cfg": run_length}),
        _resume=False,
        max_epochs=length if by_epoch else 1,
        max_iters=4 * length if by_epoch else length,
    )
    build = Runner._build_param_scheduler
    run._train_loop = run.train_loop = object.__new__(IterBasedTrainLoop)
    run.logger = SimpleNamespace(debug=lambda _: None)
    run.train_dataloader = [0] * 4
    run.param_schedulers = build(
        run,
        [
            {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": 3},
            {
                "type": "CosineAnnealingLR",
                "by_epoch": by_epoch,
                "convert_to_iter_based": by_epoch,
                **cosine,
            },
        ],
        wrapper,
    )
    ScheduleCheckHook().before_train(run)
    rates = []
    for _ in range(run.max_iters):
        rates.append(wrapper.param_groups[0]["lr"])
        for scheduler in run.param_schedulers:
            scheduler.step()
    return rates


@pytest.mark.parametrize("length", [72, 5])
@pytest.mark.parametrize("unit", ["max_epochs", "max_iters"])
def test_a_run_of_any_length_has_the_whole_warm_up_and_cosine(length, unit):
    rates = schedule({unit: length})
    assert rates[0] == pytest.approx(0.01)
    top = max(rates)
    at = rates.index(top)
    assert rates[:at] == sorted(rates[:at]) and at <= 3
    assert rates[at:] == sorted(rates[at:], reverse=True)
    assert rates[-1] < 0.2 if len(rates) < 10 else rates[-1] < 0.01


@pytest.mark.parametrize("cosine", [{"T_max": 36}, {"T_max": 36, "end": 36}])
@pytest.mark.parametrize("length", [12, 72])
def test_a_cosine_of_another_length_than_the_run_is_refused(length, cosine):
    with pytest.raises(InputError, match=r"after \d+ iterations, the run after"):
        schedule({"max_epochs": length}, **cosine)


def test_a_length_that_nothing_reads_is_refused():
    cfg = Config({"max_epochs": 72, "train_cfg": {"max_epochs": 36}})
    run = SimpleNamespace(cfg=cfg, param_schedulers=None)
    with pytest.raises(InputError, match=r"it is 72.*which is 36.*Set train_cfg"):
        ScheduleCheckHook().before_train(run)
