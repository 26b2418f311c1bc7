"""Hooks that end a run with one clear error: settings, losses, memory."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmdet.engine.hooks import NumClassCheckHook
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.scheduler import (
    CosineAnnealingParamScheduler,
    PolyParamScheduler,
)
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import Tensor, nn

from custom.errors import InputError

_CURVES = (CosineAnnealingParamScheduler, PolyParamScheduler)
# Keys of the message hub, and so of checkpoints.
_SKIPPED, _DROPPED = "skipped_batches", "dropped_window"


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters of a model; buffers do not count."""
    numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in numbers), sum(n for n, trained in numbers if trained)


@HOOKS.register_module()
class ModelBudgetHook(Hook):
    """Refuse to train a model of too many parameters.

    Args:
        limit: The model must have fewer trainable parameters.
    """

    priority = "VERY_HIGH"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def before_train(self, runner) -> None:
        """Log the number of parameters and compare it with the limit.

        Raises:
            InputError: The model has ``limit`` trainable parameters or more.
        """
        total, trainable = count_parameters(runner.model)
        print_log(f"{trainable:,} trainable of {total:,} parameters", "current")
        if trainable >= self.limit:
            raise InputError(
                runner.cfg.filename or "model",
                f"{trainable:,} trainable parameters, but fewer than {self.limit:,} "
                "are allowed",
                "Take a smaller backbone, or freeze more of its stages",
            )


@HOOKS.register_module()
class ClassCheckHook(NumClassCheckHook):
    """:class:`mmdet.engine.hooks.NumClassCheckHook` before the first iteration."""

    def before_train(self, runner) -> None:
        """Compare ``num_classes`` of every head with the classes of the data.

        Raises:
            InputError: A head has another number of classes than the data set.
        """
        try:
            self._check_head(runner, "train")
            if runner.val_loop is not None:
                self._check_head(runner, "val")
        except AssertionError as error:
            raise InputError(
                runner.cfg.filename or "model",
                str(error),
                "Set num_classes in each head of roi_head to the number of classes, or "
                "change the classes of the data sets",
            ) from error


@HOOKS.register_module()
class ScheduleCheckHook(Hook):
    """Refuse a learning-rate curve that does not end with the run.

    A cosine shorter than the run raises the rate again; a longer one never reaches its
    minimum. Schedulers without ``T_max`` and ``end`` follow the length of the run:
    MMEngine takes ``train_cfg.max_epochs`` or ``max_iters`` for them.
    """

    def before_train(self, runner) -> None:
        """Compare the end of every schedule with the end of the run.

        Raises:
            InputError: A cosine or polynomial does not end with the run, or the length
                was set at the top level of the config, where nothing reads it.
        """
        for name in ("max_epochs", "max_iters"):
            length = runner.cfg.train_cfg.get(name)
            if length is not None and runner.cfg.get(name, length) != length:
                raise InputError(
                    name,
                    f"it is {runner.cfg[name]}, but the run's length is train_cfg."
                    f"{name}, which is {length}",
                    f"Set train_cfg.{name}",
                )
        for scheduler in runner.param_schedulers or []:
            length = runner.max_epochs if scheduler.by_epoch else runner.max_iters
            unit = "epochs" if scheduler.by_epoch else "iterations"
            if not isinstance(scheduler, _CURVES):
                continue
            # Where the curve ends; its scheduler may continue.
            end = scheduler.begin + getattr(
                scheduler, "T_max", scheduler.end - scheduler.begin
            )
            if end != length:
                raise InputError(
                    "param_scheduler",
                    f"{type(scheduler).__name__} ends after {end} {unit}, the run "
                    f"after {length}",
                    "Resume with the length that the run began with"
                    if runner._resume
                    else "Remove T_max and end from it: it then follows the run",
                )


@OPTIM_WRAPPERS.register_module()
class FiniteLossOptimWrapper(OptimWrapper):
    """:class:`mmengine.optim.OptimWrapper` that skips non-finite losses.

    On a NaN or infinite loss neither ``backward`` nor ``step`` runs, and the gradients
    of its accumulation window (``accumulative_counts``) are dropped with it, so that
    every step has the gradients of a whole window. In a distributed run all processes
    leave the batch out when the loss of one is not finite; otherwise the others would
    wait for its gradients for ever.
    """

    left_out = False
    dropped_window = -1

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        """Backward and, at the end of a window, step; see the base class.

        Args:
            loss: Scalar.
            *args: Passed to ``OptimWrapper.update_params``.
            **kwargs: Passed likewise.
        """
        finite = loss.detach().isfinite().float()
        all_reduce(finite, op="min")
        self.left_out = not finite
        window = self._inner_count // self._accumulative_counts
        if self.left_out:
            self.dropped_window = window
            self.zero_grad()
        if window == self.dropped_window:
            self._inner_count += 1
        else:
            super().update_params(loss, *args, **kwargs)


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Report batches whose loss is not finite, and end the run when there are many.

    The optimiser's wrapper skips them: FiniteLossOptimWrapper, or MMEngine's
    AmpOptimWrapper, whose gradient scaler steps on finite gradients only. ``EMAHook``
    averages the unchanged weights once more.

    Args:
        max_skips: How many batches of a run may be skipped.
    """

    def __init__(self, max_skips: int) -> None:
        self.max_skips = max_skips
        self._skipped = 0

    def before_train(self, runner) -> None:
        """Restore the counts of a resumed run.

        Raises:
            InputError: The optimiser's wrapper steps on any loss.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, (FiniteLossOptimWrapper, AmpOptimWrapper)):
            raise InputError(
                "optim_wrapper.type",
                f"{type(wrapper).__name__} also steps on losses that are not finite",
                "Use FiniteLossOptimWrapper or AmpOptimWrapper, or remove "
                "NonFiniteLossHook from custom_hooks",
            )
        self._skipped = runner.message_hub.get_info(_SKIPPED, 0)
        wrapper.dropped_window = runner.message_hub.get_info(_DROPPED, -1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Report the batch if it was skipped.

        Raises:
            InputError: More than ``max_skips`` batches were skipped, or a weight or
                buffer is not finite.
        """
        wrapper, finite = runner.optim_wrapper, outputs["loss"].isfinite().float()
        if isinstance(wrapper, FiniteLossOptimWrapper):
            finite = not wrapper.left_out
        else:
            all_reduce(finite, op="min")
        if finite:
            return
        self._skipped += 1
        runner.message_hub.update_info(_SKIPPED, self._skipped)
        runner.message_hub.update_info(_DROPPED, wrapper.dropped_window)
        # Every process ends the run at the same time with the same sentence.
        gathered = [
            item for item in all_gather_object(_batch(data_batch, outputs)) if item
        ]
        files, parts = ("; ".join(column) for column in zip(*gathered, strict=True))
        print_log(
            f"The loss is not finite: {parts}. The batch is skipped ({self._skipped} "
            f"of at most {self.max_skips}): {files}",
            "current",
            logging.WARNING,
        )
        if name := _first_non_finite(runner.model):
            raise InputError(
                files,
                f"the loss is not finite ({parts}), nor is {name} of the model",
                "Resume from the last checkpoint with a lower learning rate, stronger "
                "clipping, or without --amp",
            )
        if self._skipped > self.max_skips:
            raise InputError(
                files,
                f"the loss is not finite ({parts}), and {self._skipped} batches have "
                f"been left out; at most {self.max_skips} may be",
                "See the log for the files of each; lower the learning rate, or train "
                "without --amp",
            )


def _batch(data_batch: dict, outputs: dict) -> tuple[str, str] | None:
    """Files and losses of a batch of this process whose loss is not finite."""
    if outputs["loss"].isfinite():
        return None
    files = ", ".join(s.img_path for s in data_batch["data_samples"])
    return files, ", ".join(f"{k} {v:.4g}" for k, v in outputs.items())


def _first_non_finite(model: nn.Module) -> str | None:
    """The first parameter or buffer, such as batch norm's mean, with NaN or inf."""
    for name, value in model.state_dict().items():
        if not torch.as_tensor(value).isfinite().all():
            return name
    return None


@contextmanager
def explain_out_of_memory(runner) -> Iterator[None]:
    """Around ``runner.train()`` or ``test()``: say which images did not fit.

    Args:
        runner: MMEngine's Runner; gets a hook.

    Raises:
        InputError: Memory of the GPU or of the machine ran out. It names the images of
            the batch, their sizes and instances, and what to change. Or a loader worker
            was killed, as a system does that runs out of memory.
    """
    hook = _CurrentBatch()
    runner.register_hook(hook, "HIGHEST")
    try:
        yield
    except (MemoryError, RuntimeError, OSError, EOFError) as error:
        if _loader_has_died(error):
            raise InputError(
                runner.work_dir,
                f"a loader worker has died ({error}); the system kills workers when "
                "memory runs out",
                "Set num_workers lower if that was the cause, and --resume",
            ) from error
        if not _is_out_of_memory(error):
            raise
        raise _explanation(error, hook, runner) from error


class _CurrentBatch(Hook):
    """Remembers the batch that the model is given."""

    stage, batch = "", None

    def _before_iter(self, runner, batch_idx, data_batch=None, mode="train") -> None:
        self.stage, self.batch = mode, data_batch

    def _after_iter(self, *args, **kwargs) -> None:
        self.batch = None


def _loader_has_died(error: Exception) -> bool:
    """Whether a loader worker is gone.

    torch raises RuntimeError when it notices; before that, fetching from the worker
    fails in Python's multiprocessing. An exception inside a worker is neither.
    """
    if isinstance(error, RuntimeError):
        return "DataLoader worker (pid" in str(error)
    files = (f.f_code.co_filename for f, _ in traceback.walk_tb(error.__traceback__))
    return any(Path(file).parent.name == "multiprocessing" for file in files)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether CUDA, Python or torch's CPU allocator (RuntimeError) lacked memory."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def _explanation(error: Exception, hook: _CurrentBatch, runner) -> InputError:
    where = f"iteration {runner.iter + 1}" if hook.stage == "train" else hook.stage
    if runner.world_size > 1:
        where += f" of process {runner.rank}"
    asked = str(error).splitlines()[0]
    if hook.batch is None:
        return InputError(
            runner.work_dir,
            f"out of memory between batches, {where}: {asked}",
            "Set num_workers of the data loaders lower, or use a larger machine",
        )
    samples = hook.batch["data_samples"]
    if isinstance(samples[0], list | tuple):  # the views of test-time augmentation
        samples = samples[0]
    if hook.stage == "train":
        remedy = (
            f"Set train_dataloader.batch_size below {len(samples)} "
            "(optim_wrapper.accumulative_counts=N adds up N batches before a step), a "
            "smaller crop_size, or train with --amp"
        )
    else:
        remedy = (
            f"Set {hook.stage}_dataloader.batch_size to 1, predict in tiles "
            "(model.type='TiledDetector') with a smaller tile_size, or set "
            "model.test_cfg.rcnn.max_per_img lower"
        )
    return InputError(
        "; ".join(map(_describe, samples)),
        f"out of memory in {where}, a batch of {len(samples)}: {asked}",
        remedy,
    )


def _describe(sample) -> str:
    height, width = sample.img_shape[:2]
    text = f"{sample.img_path} ({width}x{height} px"
    if "gt_instances" in sample:
        text += f", {len(sample.gt_instances)} instances"
    return f"{text})"
