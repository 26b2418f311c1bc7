"""Trainings of seconds, and when in them something can be done to them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from custom.io.checkpoint import is_whole

from .processes import ToolProcess

CONFIGS = Path(__file__).parent / "configs"
WORKERS = [
    "train_dataloader.num_workers=2",
    "train_dataloader.persistent_workers=True",
]


def train(
    root: Path,
    config: str,
    work_dir: Path,
    options: Sequence[str] = (),
    resume: bool = False,
    log: Path | None = None,
) -> ToolProcess:
    """Start a training; what it prints goes beside its folder, or to a log."""
    return ToolProcess(
        log or work_dir.with_suffix(".log"),
        "tools/train.py",
        *(CONFIGS / config, "--work-dir", work_dir),
        *(["--resume"] if resume else []),
        *(["--cfg-options", *options] if options else []),
        CELL_DATA_ROOT=str(root),
    )


class Moments:
    """When to kill: a phase of a process that writes to a folder, and how it shows.

    Args:
        work_dir: The folder.
        log: What the process prints; what it holds by now is of earlier processes.
        chance: Decides how long after the event the kill is.
    """

    pid: int  # of the process, when it has been started

    def __init__(self, work_dir: Path, log: Path, chance: random.Random) -> None:
        self.work_dir, self.log, self.chance = work_dir, log, chance
        self._read = log.stat().st_size if log.exists() else 0
        self._named = self._last()

    def training(self) -> Callable[[], bool]:
        """After some iterations."""
        wanted = self.chance.randint(1, 7)
        return (
            lambda: self._printed().count("Iter(train)")
            + self._printed().count("Epoch(train)")
            >= wanted
        )

    def checkpoint(self) -> Callable[[], bool]:
        """A checkpoint is being written."""
        return lambda: self._part(r"(iter|epoch)_\d+\.pth")

    def best(self) -> Callable[[], bool]:
        """The best checkpoint is being written."""
        return lambda: self._part(r"best_.*\.pth")

    def pointer(self) -> Callable[[], bool]:
        """``last_checkpoint`` has been written, old files are being removed."""
        return lambda: self._last() != self._named

    def validation(self) -> Callable[[], bool]:
        """A validation has begun."""
        return lambda: "(val)" in self._printed()

    def delay(self, phase: str) -> float:
        """Seconds between the event and the kill."""
        longest = {"training": 0.2, "validation": 0.4, "pointer": 0.002}
        return self.chance.uniform(0, longest.get(phase, 0.03))

    def _printed(self) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._read)
            return file.read().decode(errors="replace")

    def _part(self, pattern: str) -> bool:
        """Whether there is an unfinished file; those of earlier processes are old."""
        return self.work_dir.exists() and any(
            re.fullmatch(rf"\.{pattern}\.\w+\.mmcell-part", path.name)
            for path in self.work_dir.iterdir()
        )

    def _last(self) -> str | None:
        try:
            return (self.work_dir / "last_checkpoint").read_text()
        except FileNotFoundError:
            return None


def check_folder(work_dir: Path) -> None:
    """What a killed process leaves can be used."""
    if not work_dir.exists():
        return
    for path in work_dir.glob("[!.]*.pth"):
        assert is_whole(path), path
    last = work_dir / "last_checkpoint"
    if last.exists():
        assert is_whole(last.read_text())
    for path in work_dir.glob("[!.]*.json"):
        json.loads(path.read_text())


def scalars(run: Path) -> dict:
    """Scalars by step; a later process replaces those of an earlier one."""
    rows = {}
    for file in sorted(run.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the process was killed at it
                continue
            for key in ("time", "data_time", "memory"):
                row.pop(key, None)
            rows[row["step"], "val/loss" in row] = row
    return rows


def last_of(work_dir: Path) -> Path:
    """The checkpoint that ``last_checkpoint`` names."""
    return Path((work_dir / "last_checkpoint").read_text())
