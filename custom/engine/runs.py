"""What the tools know of run folders."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from custom.errors import InputError
from custom.io.checkpoint import is_whole, read_checkpoint


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
    # Not the half files of a killed process, whose names begin with a dot.
    held = [*work_dir.glob("[!.]*.pth"), *work_dir.glob("run.json")]
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


def config_of_run(work_dir: str | Path) -> Path:
    """The resolved config that a run was trained with.

    Testing writes its config into the folder of the run, too; that of the training is
    beside its scalars.

    Raises:
        InputError: There is none.
    """
    for scalars in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        config = scalars.with_name("config.py")
        if config.exists():
            return config
    raise InputError(work_dir, "it holds no training run", "Name the work dir of a run")


def last_checkpoint(work_dir: str | Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint of a run and its iteration or epoch, if there is one.

    Damaged ones are named on the screen; the best are none that training goes on from.
    """
    work_dir = Path(work_dir)
    pattern = re.compile(r"(?:iter|epoch)_(\d+)(?:-iter_(\d+))?\.pth")
    found = {}
    for path in work_dir.glob("*.pth"):
        if match := pattern.fullmatch(path.name):
            found[path] = [int(number or 0) for number in match.groups()]
    paths = sorted(found, key=found.get, reverse=True)
    with suppress(FileNotFoundError):
        # It may name an older one, if a run went back. The folder in it is that of the
        # day when it was written.
        named = work_dir / Path((work_dir / "last_checkpoint").read_text()).name
        paths.sort(key=lambda path: path != named)
    for path in paths:
        if is_whole(path):
            return path, found[path][0]
        print(f"{path} is damaged")
    return None


def resume(cfg: Config, source: str) -> None:
    """Make a config go on from a checkpoint of its run.

    A run that has none, because it was ended before the first, starts from the
    beginning.

    Args:
        cfg: With its ``work_dir``.
        source: A checkpoint, or ``auto`` for :func:`last_checkpoint`.

    Raises:
        InputError: The checkpoint cannot be used.
    """
    if (split := split_of_run(cfg.work_dir)) is not None:
        set_split(cfg, split)
    if source != "auto":
        read_checkpoint(source, "meta")
    elif last := last_checkpoint(cfg.work_dir):
        source = str(last[0])
    else:
        print(f"{cfg.work_dir} holds no whole checkpoint: from the beginning")
        return
    cfg.resume, cfg.load_from = True, source


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


def set_data_root(cfg: Config, given: Path | None, recorded: str | None) -> None:
    """Make every labelled data set of a config look for its images where they are.

    Args:
        cfg: The config of a run.
        given: Where they are, if the user says so.
        recorded: Where they were at the run, for configs that name a relative folder
            and are read elsewhere.
    """
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for dataset in labelled_datasets(cfg.get(name) or {}):
            root = Path(dataset.data_root)
            if not root.is_dir() and recorded is not None:
                root = Path(recorded)
            dataset.data_root = str(given or root)


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
    """Start the process group of torchrun or Slurm with gloo where there is no GPU.

    MMEngine's launchers select a CUDA device before anything else, which a CPU machine
    does not have; a process group that is there already is taken as it is. A process
    waits for the others for ``env_cfg.dist_cfg.timeout`` seconds, as with a GPU.
    """
    if cfg.launcher not in ("pytorch", "slurm") or torch.cuda.is_available():
        return
    if cfg.launcher == "slurm":
        os.environ.update(slurm_environment())
    settings = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    timeout = settings.get("timeout")
    torch.distributed.init_process_group(
        "gloo", timeout=timeout and timedelta(seconds=timeout)
    )
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
    }


def slurm_environment() -> dict[str, str]:
    """What torchrun would have set, from what ``srun`` sets; as MMEngine does it."""
    known = os.environ
    found = {
        "RANK": known["SLURM_PROCID"],
        "WORLD_SIZE": known["SLURM_NTASKS"],
        "LOCAL_RANK": known["SLURM_LOCALID"],
        "MASTER_PORT": known.get("MASTER_PORT", "29500"),
    }
    if "MASTER_ADDR" not in known:
        hosts = subprocess.run(
            ["scontrol", "show", "hostnames", known["SLURM_NODELIST"]],
            check=True,
            capture_output=True,
            text=True,
        )
        found["MASTER_ADDR"] = hosts.stdout.split()[0]
    return found
