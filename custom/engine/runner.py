"""The Runner and the loop of epochs that the configs name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import islice

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

import custom.models.weights  # noqa: F401 (reads checkpoints without running code)
from custom.datasets.samplers import (
    DrawSampler,
    InfiniteDrawSampler,
    SeededDraws,
)
from custom.engine.guards import explain_out_of_memory
from custom.engine.logging import keep_dumps_off_screen, log_outcome
from custom.engine.resume import BATCHES_DONE, SIGNALS
from custom.errors import InputError


@RUNNERS.register_module()
class CellRunner(Runner):
    """:class:`mmengine.runner.Runner`, named by ``runner_type`` in the configs.

    The differences: starting a data loader does not advance the model's random
    generator; loader workers survive a signal to the whole job; ``auto_scale_lr``
    counts accumulated batches; running out of memory names the images; the screen shows
    less than the log file.
    """

    def train(self) -> nn.Module:
        """Train, then log the best score and where everything is."""
        with explain_out_of_memory(self):
            model = super().train()
        log_outcome(self)
        return model

    def test(self) -> dict:
        """Test, then log where the results are."""
        with explain_out_of_memory(self):
            metrics = super().test()
        self.logger.info(f"Results: {self.log_dir}")
        return metrics

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """MMEngine's logger, whose long dumps go to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        keep_dumps_off_screen(logger)
        return logger

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """MMEngine's data loader with its own generator and start of workers.

        Raises:
            InputError: The data set loses the seeds of a DrawSampler.
        """
        if isinstance(dataloader, dict):
            # Starting a loader draws a number; the model's generator must not notice.
            dataloader = {**dataloader, "generator": torch.Generator()}
            sampler = dataloader.get("sampler")
            if isinstance(sampler, dict) and sampler["type"] == "DrawSampler":
                size = dataloader["batch_size"]
                dataloader["sampler"] = {"batch_size": size, **sampler}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        draws = isinstance(loader.sampler, (DrawSampler, InfiniteDrawSampler))
        if draws and not isinstance(loader.dataset, SeededDraws):
            raise InputError(
                "train_dataloader.dataset",
                f"{type(loader.dataset).__name__} loses the seeds of the sampler's "
                "draws, so that a resumed run would differ",
                "Wrap it: dict(type='SeededDataset', dataset=...)",
            )
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
        return loader

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """Scale the learning rate by the images of an optimiser's step.

        The base class leaves ``accumulative_counts`` out.
        """
        if auto_scale_lr and auto_scale_lr.get("enable"):
            counts = self.cfg.optim_wrapper.get("accumulative_counts", 1)
            base = auto_scale_lr["base_batch_size"] / counts
            auto_scale_lr = {**auto_scale_lr, "base_batch_size": base}
        super().scale_lr(optim_wrapper, auto_scale_lr)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """:class:`mmengine.runner.EpochBasedTrainLoop` that resumes within an epoch.

    Checkpoints from the middle of an epoch say how many of its batches are done. A
    resumed run loads these once more and skips them; the random augmentation of the
    others does not depend on them, see :class:`custom.datasets.samplers.SeededDraws`.
    """

    def run_epoch(self) -> None:
        """Train the batches of the epoch that are not done."""
        hub, length = self.runner.message_hub, len(self.dataloader)
        done = self._batches_done()
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, data_batch in islice(enumerate(self.dataloader), done, None):
            hub.update_info(BATCHES_DONE, (idx + 1, length))
            self.run_iter(idx, data_batch)
        hub.pop_info(BATCHES_DONE, None)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _batches_done(self) -> int:
        """Batches done at the checkpoint that the run resumes from; 0 between epochs.

        Raises:
            InputError: The epoch had another number of batches then.
        """
        length = len(self.dataloader)
        done, before = self.runner.message_hub.get_info(BATCHES_DONE, (0, length))
        if before != length:
            raise InputError(
                self.runner.work_dir,
                f"the checkpoint was made after {done} of {before} batches of an epoch "
                f"that has {length} now",
                "Resume with the same data, batch size and number of processes, or "
                "from a checkpoint between two epochs (--resume PATH)",
            )
        return done


def _start_worker(stock: Callable[[int], None] | None, worker_id: int) -> None:
    """Make a loader worker end with its run, and only then.

    Slurm sends SIGTERM to every process of a job. The run then finishes its iteration
    (PreemptionHook), for which it needs its workers. When Python exits, it ends the
    workers by SIGTERM, too, and waits for them.
    """
    if hasattr(signal, "sigtimedwait"):  # Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_await_parent, daemon=True).start()
    if stock is not None:
        stock(worker_id)


def _await_parent() -> None:
    """Exit when the run sends a signal, or has ended.

    A worker of PyTorch notices that its run was killed, but then waits for ever for
    somebody to take its last batch.
    """
    process = multiprocessing.parent_process()
    parent = process.pid if process else None
    while os.getppid() == parent:
        received = signal.sigtimedwait(SIGNALS, 2)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
