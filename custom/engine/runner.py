"""The Runner of training runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from custom.engine.loop import ResumableEpochLoop
from custom.engine.preemption_hook import SIGNALS


class CellRunner(Runner):
    """A Runner whose samples do not depend on workers, processes and history."""

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """As in the base, with the data set in ``SeededDataset`` where draws are made.

        The config stays as it is written: its data set's settings keep their places.
        """
        if isinstance(dataloader, dict):
            # Starting a loader draws a number; the model's generator must not notice.
            dataloader = {**dataloader, "generator": torch.Generator()}
            sampler = dataloader.get("sampler")
            kind = sampler.get("type") if isinstance(sampler, dict) else None
            if kind in ("DrawSampler", "InfiniteDrawSampler"):
                dataloader["dataset"] = {
                    "type": "SeededDataset",
                    "dataset": dataloader["dataset"],
                }
            if kind == "DrawSampler":
                dataloader["sampler"] = {
                    "batch_size": dataloader["batch_size"],
                    **sampler,
                }
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn)
        return loader

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """As in the base, by the images of an optimiser's step.

        The base leaves ``accumulative_counts`` out.
        """
        if auto_scale_lr and auto_scale_lr.get("enable"):
            counts = self.cfg.optim_wrapper.get("accumulative_counts", 1)
            base = auto_scale_lr["base_batch_size"] / counts
            auto_scale_lr = {**auto_scale_lr, "base_batch_size": base}
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As in the base; loops of epochs resume within an epoch, too."""
        if isinstance(loop, dict) and loop.get("type") == "EpochBasedTrainLoop":
            loop = {**loop, "type": ResumableEpochLoop}
        return super().build_train_loop(loop)


def _begin_worker(begin: Callable[[int], None] | None, worker_id: int) -> None:
    """Let only the run itself end a worker of its loaders.

    Slurm sends SIGTERM to every process of a job. The run finishes its iteration then
    (PreemptionHook), for which it needs its workers; the run in turn ends them by
    SIGTERM when Python exits, as multiprocessing does, and waits for their end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_await_parent, daemon=True).start()
    if begin is not None:
        begin(worker_id)


def _await_parent() -> None:
    """Exit when the run says so, or is no more.

    A worker of PyTorch whose run was killed notices it, too, but then waits for ever
    for somebody to take its last batch.
    """
    run = multiprocessing.parent_process().pid
    while os.getppid() == run:
        told = signal.sigtimedwait(SIGNALS, 2)
        if told is not None and told.si_pid == run:
            break
    os._exit(0)
