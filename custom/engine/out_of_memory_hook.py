"""What a run says when memory runs out.

A hook sees the batch, and only who calls the runner sees the exception: the two parts
of this file. Nothing is skipped; the run ends.
"""

from __future__ import annotations

import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from mmengine.hooks import Hook

from custom.errors import InputError

_GIB = 1 << 30


@contextmanager
def explain_out_of_memory(runner) -> Iterator[None]:
    """Around ``runner.train()`` or ``test()``: say which images did not fit.

    Args:
        runner: MMEngine's Runner; gets a hook.

    Raises:
        InputError: Memory of the GPU or of the machine ran out. It names the images of
            the batch, their sizes and instances, the memory, and what to change. Or a
            process that loads data was killed, which is what a system without memory
            does.
    """
    hook = _BatchInHand()
    runner.register_hook(hook, "HIGHEST")
    try:
        yield
    except (MemoryError, RuntimeError, OSError, EOFError) as error:
        if _loader_has_died(error):
            raise InputError(
                runner.work_dir,
                f"a process that loads data has died ({error}); the system kills such "
                "processes when memory runs out",
                "Set num_workers lower if that was so, and go on with --resume",
            ) from error
        if not is_out_of_memory(error):
            raise
        raise _explanation(error, hook, runner) from error


class _BatchInHand(Hook):
    """Keeps the batch that the model works on."""

    stage, batch = "", None

    def _before_iter(self, runner, batch_idx, data_batch=None, mode="train") -> None:
        self.stage, self.batch = mode, data_batch

    def _after_iter(self, *args, **kwargs) -> None:
        self.batch = None


def _loader_has_died(error: Exception) -> bool:
    """Whether a process that loads data is gone.

    torch says so when it looks; before that, fetching what the process has left behind
    fails in Python's multiprocessing. What fails inside of such a process is neither.
    """
    if isinstance(error, RuntimeError):
        return "DataLoader worker (pid" in str(error)
    files = (f.f_code.co_filename for f, _ in traceback.walk_tb(error.__traceback__))
    return any(Path(file).parent.name == "multiprocessing" for file in files)


def is_out_of_memory(error: Exception) -> bool:
    """Whether CUDA's, Python's, or the CPU allocator of torch (a RuntimeError)."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def _explanation(error: Exception, hook: _BatchInHand, runner) -> InputError:
    where = f"iteration {runner.iter + 1}" if hook.stage == "train" else hook.stage
    if runner.world_size > 1:
        where += f" of process {runner.rank}"
    memory, asked = _memory(runner.model), str(error).splitlines()[0]
    if hook.batch is None:
        return InputError(
            runner.work_dir,
            f"out of memory between batches, {where}: {memory}; {asked}",
            "Set num_workers of the data loaders lower, or use a larger machine",
        )
    images = [_describe(sample) for sample in _samples(hook.batch)]
    if hook.stage == "train":
        remedy = (
            f"Set train_dataloader.batch_size below {len(images)} "
            "(tools/analysis/find_batch_size.py measures what fits; "
            "optim_wrapper.accumulative_counts=N adds up N batches before a step), a "
            "smaller crop_size, or train with --amp"
        )
    else:
        remedy = (
            f"Set {hook.stage}_dataloader.batch_size to 1, predict in tiles "
            "(model.type='TiledDetector') with a smaller tile_size, or set "
            "model.test_cfg.rcnn.max_per_img lower"
        )
    return InputError(
        "; ".join(images),
        f"out of memory in {where}, a batch of {len(images)}: {memory}; {asked}",
        remedy,
    )


def _samples(batch: dict) -> list:
    """The data samples of a batch; with test-time augmentation there are views."""
    flat, rest = [], [batch["data_samples"]]
    while rest:
        item = rest.pop(0)
        if isinstance(item, (list, tuple)):
            rest = [*item, *rest]
        else:
            flat.append(item)
    return flat


def _describe(sample) -> str:
    height, width = sample.img_shape[:2]
    text = f"{sample.img_path} ({width}x{height} px"
    if "gt_instances" in sample:
        text += f", {len(sample.gt_instances)} instances"
    return f"{text})"


def _memory(model: torch.nn.Module) -> str:
    """What is used and what there is, in GiB, on the device of a model."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        free, total = (value / _GIB for value in torch.cuda.mem_get_info(device))
        used = torch.cuda.memory_allocated(device) / _GIB
        peak = torch.cuda.max_memory_allocated(device) / _GIB
        return (
            f"{torch.cuda.get_device_name(device)} has {total:.2f} GiB, {free:.2f} "
            f"free; this process holds {used:.2f}, at most {peak:.2f}"
        )
    machine = psutil.virtual_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
    return (
        f"the machine has {machine.total / _GIB:.2f} GiB, "
        f"{machine.available / _GIB:.2f} free; this process held at most {peak:.2f}"
    )
