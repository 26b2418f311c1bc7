"""What the tools know of run folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

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


def last_checkpoint(work_dir: str | Path) -> tuple[Path, int] | None:
    """The newest checkpoint of a run and its iteration or epoch, if there is one."""
    work_dir = Path(work_dir)
    try:
        # The path in it is that of the day when it was written.
        path = work_dir / Path((work_dir / "last_checkpoint").read_text()).name
    except FileNotFoundError:
        return None
    number = re.fullmatch(r"(?:iter|epoch)_(\d+)", path.stem)
    return (path, int(number[1])) if number and path.is_file() else None


def checkpoint_of_run(work_dir: str | Path) -> Path:
    """The checkpoint that stands for a run: its best, or else its last.

    Raises:
        InputError: It has none.
    """
    best = sorted(Path(work_dir).glob("best_*.pth"), key=lambda p: p.stat().st_mtime)
    if best:
        return best[-1]
    if (last := last_checkpoint(work_dir)) is not None:
        return last[0]
    raise InputError(work_dir, "there is no checkpoint in it", "Train first")


def folds_of(folder: str | Path) -> list[Path]:
    """The run folders ``fold-0``, ``fold-1``, ... in a folder, by number."""
    folds = [p for p in Path(folder).glob("fold-*") if p.name[5:].isdigit()]
    return sorted(folds, key=lambda p: int(p.name[5:]))


def set_split(cfg: Config, split: str) -> None:
    """Make every labelled data set of a config use one split."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for dataset in labelled_datasets(cfg.get(name) or {}):
            dataset.split = split


def labelled_datasets(loader: dict) -> list[dict]:
    """The data sets of a loader that a split divides, also those inside wrappers."""
    return [dataset for dataset in _datasets(loader) if "split" in dataset]


def _datasets(node: dict) -> Iterator[dict]:
    """The data sets of a loader, also those inside wrappers."""
    for inner in (node.get("dataset"), *(node.get("datasets") or ())):
        if inner is not None:
            yield inner
            yield from _datasets(inner)


def set_tta(cfg: Config) -> None:
    """Test with augmentation: the model becomes ``tta_model`` around itself.

    The test data take ``tta_pipeline``. A config that has none gets one made of its own
    test pipeline and ``tta_views``, see :func:`tta_pipeline`.
    """
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset:
        dataset = dataset.dataset
    if cfg.get("tta_pipeline") is None:
        cfg.tta_pipeline = tta_pipeline(dataset.pipeline, **cfg.tta_views)
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def tta_pipeline(
    pipeline: Sequence[dict], scales: Sequence[float], elements: Sequence[str]
) -> list[dict]:
    """A test pipeline that makes every view: each scale with each element.

    Args:
        pipeline: Test pipeline with one ``Resize`` and, at its end, ``PackDetInputs``.
        scales: Factors on what ``Resize`` does.
        elements: Of :class:`custom.transforms.RandomDihedral`.

    Raises:
        InputError: The pipeline is not of this form.
    """
    types = [step["type"] for step in pipeline]
    if types.count("Resize") != 1 or types[-1] != "PackDetInputs":
        raise InputError(
            "test pipeline",
            f"no views can be made of the steps {', '.join(types)}",
            "It needs one Resize, and PackDetInputs as its last step; or give the "
            "config a tta_pipeline",
        )
    at = types.index("Resize")
    views = {
        "type": "TestTimeAug",
        "transforms": [
            [_rescaled(pipeline[at], scale) for scale in scales],
            [{"type": "RandomDihedral", "elements": [name]} for name in elements],
            *([step] for step in pipeline[at + 1 : -1]),
            [{**pipeline[-1], "meta_keys": (*pipeline[-1]["meta_keys"], "dihedral")}],
        ],
    }
    return [*pipeline[:at], views]


def _rescaled(resize: dict, factor: float) -> dict:
    """A ``Resize`` to ``factor`` times the size."""
    if resize.get("scale_factor") is not None:
        return {**resize, "scale_factor": resize["scale_factor"] * factor}
    return {**resize, "scale": tuple(round(side * factor) for side in resize["scale"])}


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
