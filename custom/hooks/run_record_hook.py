"""A run folder that explains itself."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from custom.datasets.splits import Split

_PACKAGES = (
    "torch",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "faster-coco-eval",
    "tifffile",
)


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write ``split.json`` and ``run.json`` into the work directory.

    ``split.json`` holds the names of the images, so that the run can be tested and
    resumed on the same split even if the folder of images changes. ``run.json`` holds
    the command, the versions, the git state and the number of images.
    """

    @master_only
    def before_train(self, runner) -> None:
        """Write both files."""
        work_dir = Path(runner.work_dir)
        dataset = runner.train_dataloader.dataset
        while hasattr(dataset, "dataset"):  # wrappers such as RepeatDataset
            dataset = dataset.dataset
        split: Split | None = getattr(dataset, "split", None)
        if split is not None:
            split.save(work_dir / "split.json")
        record = {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "git": _git_state(),
            "seed": runner.seed,
            "world_size": runner.world_size,
            "data_root": str(Path(getattr(dataset, "data_root", "")).resolve()),
            "train_images": len(dataset),
            "split": split.name if split else None,
        }
        path = work_dir / "run.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict | None:
    """Commit and whether files differ from it; None outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed_files": git("status", "--porcelain").splitlines(),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
