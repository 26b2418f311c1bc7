"""Data loading for many epochs: nothing grows, and a dead worker is no silence.

What malloc keeps for later is given back before each measurement, because it follows
the largest crops so far: left alone, it reaches its limit after some sixty epochs.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scipy.stats import linregress, t

from custom.engine.runner import CellRunner
from tests.engine.test_out_of_memory import train_with_dying_worker

EPOCHS, WARM_UP, WORKERS = 20, 5, 4
# Half a per cent of what the five processes hold, and 3.5 standard errors of the slope.
MOST_MB_PER_EPOCH = 4.0
LIBC = ctypes.CDLL(None)


@dataclass
class State:
    """Of this process and its workers: memory in MB, open files, shared memory."""

    rss: float
    pss: float
    files: int
    shared: int

    @classmethod
    def now(cls) -> State:
        gc.collect()
        LIBC.malloc_trim(0)
        processes = [psutil.Process(), *psutil.Process().children()]
        memory = [process.memory_full_info() for process in processes]
        pids = {str(process.pid) for process in processes}
        # torch calls its files torch_<pid>_...; other programs have theirs.
        shared = [f for f in os.listdir("/dev/shm") if pids & set(f.split("_"))]
        return cls(
            sum(m.rss for m in memory) / 1e6,
            sum(m.pss for m in memory) / 1e6,
            sum(process.num_fds() for process in processes),
            len(shared),
        )


def slope(values: list[float]) -> tuple[float, float]:
    """Growth per epoch after the warm-up, and half of its 95 % interval."""
    y = np.array(values[WARM_UP:])
    fit = linregress(np.arange(len(y)), y)
    return fit.slope, t.ppf(0.975, len(y) - 2) * fit.stderr


def soak(repo) -> list[State]:
    """The state after each epoch of the baseline's training set."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(repo / "configs/cell/maskrcnn_r50.py")
    loader = cfg.train_dataloader
    loader.update(batch_size=4, num_workers=WORKERS, persistent_workers=True)
    loader.dataset.split = "all"
    loader.dataset = {"type": "ProbedDataset", "dataset": loader.dataset}
    loader = CellRunner.build_dataloader(loader, seed=0)
    states = []
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        images = sum(len(batch["inputs"]) for batch in loader)
        assert images == len(loader.dataset) == 40
        states.append(State.now())
    loader._iterator._shutdown_workers()
    return states


@DATASETS.register_module()
class ProbedDataset:
    """Gives free memory back after each sample."""

    def __init__(self, dataset: dict) -> None:
        self.dataset = DATASETS.build(dataset)
        self.metainfo, self.full_init = self.dataset.metainfo, self.dataset.full_init

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        sample = self.dataset[index]
        LIBC.malloc_trim(0)
        return sample


@pytest.fixture
def real_data(hw3, monkeypatch) -> None:
    monkeypatch.setenv("CELL_DATA_ROOT", str(hw3))


def test_twenty_epochs_of_real_regions_leave_memory_and_files_as_they_were(
    repo, real_data, fault
):
    states = soak(repo)
    growth = {
        name: slope([getattr(state, name) for state in states])
        for name in ("rss", "pss")
    }
    print([(round(s.rss), round(s.pss), s.files, s.shared) for s in states])
    lost = "; ".join(
        f"{name.upper()} {value:+.2f} ± {margin:.2f} MB an epoch"
        for name, (value, margin) in growth.items()
    )
    fault(
        "leak in data loading",
        f"{EPOCHS} epochs of 40 real regions, {WORKERS} workers, "
        f"{states[-1].pss:.0f} MB in five processes",
        EPOCHS,
        f"{lost}; open files {states[WARM_UP].files} and then {states[-1].files}",
    )
    assert {state.files for state in states[WARM_UP:]} == {states[WARM_UP].files}
    assert {state.shared for state in states} == {0}
    for value, margin in growth.values():
        assert value < max(margin, MOST_MB_PER_EPOCH)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_dies_ends_the_run_with_a_message(tmp_path, number, fault):
    message = train_with_dying_worker(tmp_path, number)
    assert "loader worker has died" in message and "--resume" in message
    fault(
        f"worker gets {number.name}",
        "third iteration, 2 workers",
        1,
        "reported in seconds",
    )
