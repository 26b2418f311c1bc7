"""Processes that train batch norm keep one model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.multiprocessing import start_processes

from custom.engine import BatchNormStatsHook

FROZEN = 3.7  # a value that three equal summands do not give back when divided by 3


def network() -> nn.Sequential:
    """A layer that trains, one that is frozen, one without statistics."""
    layers = [nn.BatchNorm2d(2, **k) for k in ({}, {}, {"track_running_stats": False})]
    model = nn.Sequential(*layers).train()
    model[1].eval()
    nn.init.constant_(model[1].running_mean, FROZEN)
    return model


def images(rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(4, 2, 5, 5, generator=generator) + rank


def train(rank: int, folder: str) -> None:
    """One iteration of one process of three."""
    torch.set_num_threads(1)  # a forked process does not have its parent's threads
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3
    )
    model = network()
    model(images(rank))
    BatchNormStatsHook().after_train_iter(SimpleNamespace(model=model), 0)
    torch.save(model.state_dict(), f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()


def test_statistics_are_the_mean_of_all_processes_and_frozen_ones_stay(tmp_path: Path):
    start_processes(train, (str(tmp_path),), nprocs=3, start_method="fork")
    found = [torch.load(tmp_path / f"{i}.pth", weights_only=True) for i in range(3)]
    alone = []
    for rank in range(3):
        model = network()
        model(images(rank))
        alone.append(model.state_dict())
    assert not torch.equal(alone[0]["0.running_mean"], alone[1]["0.running_mean"])
    for name, value in found[0].items():
        assert all(torch.equal(value, other[name]) for other in found)
        if name in ("0.running_mean", "0.running_var"):
            mean = torch.stack([state[name] for state in alone]).mean(dim=0)
            torch.testing.assert_close(value, mean)
        else:
            assert torch.equal(value, alone[0][name])


def test_one_process_is_left_alone():
    model = network()
    model(images(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    BatchNormStatsHook().after_train_iter(SimpleNamespace(model=model), 0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
