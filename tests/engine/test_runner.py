"""What CellRunner adds to MMEngine's Runner; its samples: tests/datasets."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from custom.engine.runner import CellRunner


@DATASETS.register_module(name="NumbersOfTestRunner")
class Numbers(Dataset):
    """Numbers, and the process that has loaded them."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict:
        return {"number": float(index), "pid": os.getpid()}


class Line(BaseModel):
    """A model of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, number, pid, mode: str = "loss"):
        """The mean of the batch, so that the weight says which images there were."""
        return {"loss": (self.weight * torch.tensor(number)).mean()}


def loader(**kwargs) -> dict:
    return {
        "dataset": {"type": "NumbersOfTestRunner"},
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "batch_size": 1,
        "num_workers": 0,
        **kwargs,
    }


def train(work_dir, batch_size: int, counts: int, scale: bool = False) -> CellRunner:
    """Four steps of the optimiser on two images each."""
    cfg = Config(
        {
            "train_dataloader": loader(batch_size=batch_size),
            "optim_wrapper": {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 1e-3},
                "accumulative_counts": counts,
            },
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 4 * counts},
            "auto_scale_lr": {"enable": scale, "base_batch_size": 4},
            "work_dir": str(work_dir),
            "experiment_name": work_dir.name,
            "model": None,
        }
    )
    runner = CellRunner(
        model=Line(),
        work_dir=cfg.work_dir,
        train_dataloader=cfg.train_dataloader,
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        auto_scale_lr=cfg.auto_scale_lr,
        experiment_name=cfg.experiment_name,
        cfg=cfg,
    )
    runner.train()
    return runner


@pytest.mark.parametrize("scale", [False, True])
def test_accumulation_gives_the_weights_and_the_rate_of_the_larger_batch(
    tmp_path, scale
):
    large = train(tmp_path / "large", 2, 1, scale)
    small = train(tmp_path / "small", 1, 2, scale)
    assert isinstance(small.optim_wrapper, OptimWrapper)
    rates = [r.optim_wrapper.param_groups[0]["lr"] for r in (large, small)]
    assert rates == [1e-3 / 2 if scale else 1e-3] * 2
    torch.testing.assert_close(small.model.weight, large.model.weight)
    assert large.model.weight != 1


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def send(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def test_loader_workers_end_at_the_word_of_their_parent_alone():
    built = CellRunner.build_dataloader(loader(num_workers=1))
    batches = iter(built)
    (pid,) = {int(p) for p in next(batches)["pid"]}
    assert pid != os.getpid()
    # From somebody else, as Slurm does it to all processes of a job.
    other = multiprocessing.get_context("fork").Process(target=send, args=(pid,))
    other.start(), other.join()
    assert [int(next(batches)["number"][0]) for _ in range(5)] == list(range(1, 6))
    assert alive(pid)
    send(pid)
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")
