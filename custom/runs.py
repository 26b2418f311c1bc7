"""What the tools know of run folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from custom.errors import InputError


def guard_work_dir(work_dir: str | Path) -> None:
    """Refuse to start a second run in a folder that holds one.

    Only the first process looks: the others of a distributed run may find what it
    has written already.

    Raises:
        InputError: The folder holds a checkpoint or a run record.
    """
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) != 0:
        return
    work_dir = Path(work_dir)
    held = [*work_dir.glob("*.pth"), *work_dir.glob("run.json")]
    if held:
        raise InputError(
            work_dir,
            f"it holds another run ({held[0].name})",
            "Go on with it by --resume, choose another --work-dir, or remove it",
        )


def split_of_run(work_dir: str | Path) -> str | None:
    """The split file that a run left in its folder, if it did."""
    path = Path(work_dir) / "split.json"
    return str(path) if path.exists() else None


def set_split(cfg: Config, split: str) -> None:
    """Make every labelled data set of a config use one split."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for dataset in _datasets(cfg.get(name) or {}):
            if "split" in dataset:
                dataset.split = split


def _datasets(node: dict) -> Iterator[dict]:
    """The data sets of a loader, also those inside wrappers."""
    for inner in (node.get("dataset"), *(node.get("datasets") or ())):
        if inner is not None:
            yield inner
            yield from _datasets(inner)


def join_cpu_processes(cfg: Config) -> None:
    """Start torchrun's process group with gloo where there is no GPU.

    MMEngine's launchers select a CUDA device before anything else, which a CPU machine
    does not have; a process group that is there already is taken as it is.
    """
    if cfg.launcher != "pytorch" or torch.cuda.is_available():
        return
    torch.distributed.init_process_group("gloo")
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
    }
