from __future__ import annotations

import copy
import math
import socket
from datetime import timedelta

import pytest
import torch
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from custom.engine import FiniteLossOptimWrapper, NonFiniteLossHook
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
    kind="FiniteLoss",
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
            "type": f"{kind}OptimWrapper",
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
    assert runner.optim_wrapper.skipped == 1
    (ema,) = (hook for hook in runner.hooks if hasattr(hook, "ema_model"))
    assert all(v.isfinite().all() for v in ema.ema_model.state_dict().values())
    log = next(tmp_path.rglob("*.log")).read_text()
    assert f"loss_mask {value}" in log and "bad0.tif, bad1.tif" in log
    assert "a0.tif" not in log and "1 so far, 5 may be" in log


def test_the_stock_wrapper_would_spoil_the_weights(tmp_path):
    """The danger is real, and the hook refuses to run without the guard."""
    model = Toy()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters()))
    model.train_step(batch(0, "a", math.nan), wrapper)
    assert model.linear.weight.isnan().any()
    with pytest.raises(InputError, match="FiniteLossAmpOptimWrapper"):
        train(tmp_path, [batch(0, "a")], kind="")


def test_one_more_than_the_limit_ends_the_run(tmp_path):
    bad = [batch(math.nan, name) for name in "abc"]
    train(tmp_path / "1", bad[:2], max_skips=2)
    with pytest.raises(InputError, match=r"c0.tif, c1.tif.*loss_mask nan.*3 batches"):
        train(tmp_path / "2", bad, max_skips=2)


def test_batches_that_were_left_out_before_a_resume_count(tmp_path):
    first, _ = train(tmp_path / "before", [batch(math.nan, "a")], max_skips=1)
    saved = first.message_hub.state_dict()  # what a checkpoint holds

    class Resumed(NonFiniteLossHook):
        def before_train(self, runner) -> None:
            runner.message_hub.load_state_dict(saved)
            super().before_train(runner)

    with pytest.raises(InputError, match=r"b0.tif, b1.tif.*2 batches"):
        train(tmp_path / "after", [batch(math.nan, "b")], max_skips=1, guard=Resumed)


def test_a_model_that_is_not_finite_itself_ends_the_run_at_once(tmp_path):
    # Batch norm takes the input into its running mean before there is a loss.
    with pytest.raises(InputError, match=r"nor is norm.running_mean of the model"):
        train(tmp_path, [batch(0, "a", math.nan)], model=Toy(norm=True))


def test_gradients_of_an_accumulation_wait_for_the_next_step(tmp_path):
    batches = [batch(0, "a"), batch(math.nan, "b"), batch(0, "c"), batch(0, "d")]
    _, states = train(tmp_path, batches, accumulative_counts=2)
    weights = [state[0]["linear.weight"] for state in states]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[2], weights[3])


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
    assert wrapper.skipped == 1
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
