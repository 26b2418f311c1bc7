"""Run folders: their config, split and checkpoints."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from custom.engine.configs import set_split
from custom.engine.distributed import process_rank
from custom.errors import InputError
from custom.io.checkpoint import is_whole, read_checkpoint

# Packages of older versions, and where their parts are now.
_REMOVED_PACKAGES = ("custom.hooks", "custom.visualization")
_NEW_PACKAGES = ("custom.engine", "custom.models.backbones")
# Hooks of older versions, whose work AtomicCheckpointHook and PyTorch do now.
_REMOVED_HOOKS = ("RandomStateHook", "GradientStateHook", "BatchNormStatsHook")


def guard_work_dir(work_dir: str | Path) -> None:
    """Refuse to start a second run in a folder that holds checkpoints.

    Only the first process checks: by the time that another one does, the first may
    have written some.

    Raises:
        InputError: The folder holds a checkpoint.
    """
    if process_rank() != 0:
        return
    # The temporary files of a killed process begin with a dot.
    checkpoint = next(Path(work_dir).glob("[!.]*.pth"), None)
    if checkpoint is not None:
        raise InputError(
            work_dir,
            f"it holds the checkpoints of another run ({checkpoint.name})",
            "Continue that run with --resume, choose another --work-dir, or remove it",
        )


def split_of_run(work_dir: str | Path) -> str | None:
    """The path of the split file in a run's folder, if there is one."""
    path = Path(work_dir) / "split.json"
    return str(path) if path.exists() else None


def config_of_run(work_dir: str | Path) -> Path:
    """The path of the resolved config of a training run.

    A test writes its config into the folder of the run, too; the training's is beside
    its scalars.

    Raises:
        InputError: The folder does not hold a training run.
    """
    for scalars in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        config = scalars.with_name("config.py")
        if config.exists():
            return config
    raise InputError(
        work_dir, "it is not the folder of a training run", "Name the work dir of a run"
    )


def read_config(path: str | Path) -> Config:
    """Load a config file, also one that an older version of the project saved.

    Packages that ``custom_imports`` names under an old name are imported under today's.

    Raises:
        InputError: The file is missing, or names parts that no longer exist.
    """
    if not Path(path).is_file():
        raise InputError(path, "the config does not exist", "Check the path")
    cfg = Config.fromfile(path, import_custom_modules=False)
    imports = cfg.get("custom_imports") or {"imports": []}
    if not set(imports["imports"]).isdisjoint(_REMOVED_PACKAGES):
        names = [n for n in imports["imports"] if n not in _REMOVED_PACKAGES]
        imports["imports"] = [*names, *_NEW_PACKAGES]
    import_modules_from_strings(**imports)
    if "custom_hooks" in cfg:
        cfg.custom_hooks = [
            hook for hook in cfg.custom_hooks if hook["type"] not in _REMOVED_HOOKS
        ]
    if cfg.get("optim_wrapper", {}).get("type") == "FiniteLossAmpOptimWrapper":
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    return cfg


def last_checkpoint(work_dir: str | Path) -> tuple[Path, int] | None:
    """The newest undamaged checkpoint of a run, with its iteration or epoch.

    Damaged ones are printed. Best-model checkpoints do not count: training never
    resumes from them.
    """
    work_dir = Path(work_dir)
    pattern = re.compile(r"(?:iter|epoch)_(\d+)(?:-iter_(\d+))?\.pth")
    steps = {}
    for path in work_dir.glob("*.pth"):
        if match := pattern.fullmatch(path.name):
            steps[path] = [int(number or 0) for number in match.groups()]
    paths = sorted(steps, key=steps.__getitem__, reverse=True)
    with suppress(FileNotFoundError):
        # After a run went back to an older checkpoint, later ones are in the folder,
        # too. Only the name counts: the folder may have been moved since.
        newest = work_dir / Path((work_dir / "last_checkpoint").read_text()).name
        paths.sort(key=lambda path: path != newest)
    for path in paths:
        if is_whole(path):
            return path, steps[path][0]
        print(f"{path} is damaged")
    return None


def resume(cfg: Config, source: str) -> None:
    """Set a config to resume its run.

    A run that was ended before its first checkpoint starts from the beginning.

    Args:
        cfg: With its ``work_dir``.
        source: A checkpoint, or ``auto`` for :func:`last_checkpoint`.

    Raises:
        InputError: The checkpoint cannot be read.
    """
    if (split := split_of_run(cfg.work_dir)) is not None:
        set_split(cfg, split)
    if source != "auto":
        read_checkpoint(source, "meta")
    elif last := last_checkpoint(cfg.work_dir):
        source = str(last[0])
    else:
        print(f"{cfg.work_dir} holds no undamaged checkpoint: from the beginning")
        return
    cfg.resume, cfg.load_from = True, source


def checkpoint_of_run(work_dir: str | Path) -> Path:
    """The checkpoint to test and predict with: the best of a run, or else the last.

    Raises:
        InputError: The folder holds none.
    """
    best = sorted(Path(work_dir).glob("best_*.pth"), key=lambda p: p.stat().st_mtime)
    if best:
        return best[-1]
    if (last := last_checkpoint(work_dir)) is not None:
        return last[0]
    raise InputError(work_dir, "it lacks a checkpoint", "Train first")


def folds_of(folder: str | Path) -> list[Path]:
    """The run folders ``fold-0``, ``fold-1``, ... in a folder, by number."""
    folds = [p for p in Path(folder).glob("fold-*") if p.name[5:].isdigit()]
    return sorted(folds, key=lambda p: int(p.name[5:]))
