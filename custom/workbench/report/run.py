"""Read a run folder: its config, logged scalars, record, split and predictions."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from custom.engine.configs import set_data_root, set_split
from custom.engine.runs import checkpoint_of_run, config_of_run
from custom.errors import InputError
from custom.evaluation.predictions import FILE_NAME
from custom.io import json_file

# The packages that decide the result; run.json has all.
_STACK = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "mmengine")
_STACK += ("mmcv", "mmdet")


@dataclass
class Run:
    """A run folder.

    Attributes:
        path: The folder.
        name: What the report calls it.
        cfg: The config that it was trained with, resolved.
        rows: Its scalars, see :func:`read_scalars`.
        record: ``run.json``; empty if it is not there.
        split: ``split.json``, or None.
        predictions: The newest file of predictions of its validation images, or None.
    """

    path: Path
    name: str
    cfg: Config
    rows: list[dict]
    record: dict
    split: dict | None
    predictions: Path | None

    @property
    def test_command(self) -> str:
        """The command that makes the run's predictions."""
        try:
            checkpoint = str(checkpoint_of_run(self.path))
        except InputError:
            checkpoint = "CHECKPOINT"
        words = ["python", "tools/test.py", str(self.cfg.filename), checkpoint]
        return shlex.join(words)

    def subtitle(self) -> str:
        """Config, split and date in one line."""
        command = self.record.get("command", [])
        words = [command[1] if len(command) > 1 else str(self.cfg.filename)]
        if self.split is not None:
            words.append(f"split {self.split['name']}")
        if "started" in self.record:
            words.append(self.record["started"][:10])
        return " · ".join(words)

    def environment(self) -> list[tuple[str, str]]:
        """(name, text) of where the run comes from."""
        git = self.record.get("git") or {}
        changed = git.get("changed_files", [])
        facts = [
            ("folder", str(self.path)),
            ("command", "python " + shlex.join(self.record.get("command", []))),
            ("started", self.record.get("started", "unknown")),
            ("seed", str(self.record.get("seed", "unknown"))),
            ("processes", str(self.record.get("world_size", "unknown"))),
            ("git commit", git.get("commit", "unknown")),
            ("changed files", ", ".join(changed) if changed else "none"),
            ("machine", self.record.get("platform", "unknown")),
            ("Python", self.record.get("python", "unknown")),
        ]
        packages = self.record.get("packages", {})
        return facts + [(name, packages[name]) for name in _STACK if name in packages]


def read_run(path: Path, name: str, data_root: Path | None) -> Run:
    """Read a run folder.

    Args:
        path: The folder.
        name: What the page calls it.
        data_root: Where its images are; None for the folder that the run used.

    Raises:
        InputError: The folder is not a training run, or a file in it is broken.
    """
    run = Run(
        path,
        name,
        Config.fromfile(config_of_run(path)),
        read_scalars(path),
        _read_object(path / "run.json") or {},
        _read_object(path / "split.json"),
        newest_predictions(path),
    )
    if run.split is not None:
        set_split(run.cfg, str(path / "split.json"))
    set_data_root(run.cfg, data_root, run.record.get("data_root"))
    return run


def newest_predictions(path: Path) -> Path | None:
    """The newest ``predictions.json`` of validation images below a run folder."""
    files = sorted(path.glob(f"*/{FILE_NAME}"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        if (_read_object(file) or {}).get("info", {}).get("subset") == "val":
            return file
    return None


def read_scalars(run: Path) -> list[dict]:
    """The logged scalars of a run in order; a resumed run has several logs.

    A run that was killed may have left half a line at the end of its log.

    Raises:
        InputError: The run lacks scalars.
    """
    rows = []
    for file in sorted(run.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    if not rows:
        raise InputError(run, "it holds no scalars", "Name the work dir of a run")
    return rows


def series(rows: list[dict], key: str) -> tuple[list, list]:
    """Steps and values of one scalar; a step that was repeated counts once."""
    points = {row["step"]: row[key] for row in rows if key in row and "step" in row}
    return list(points), list(points.values())


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths of runs that tell them apart.

    Raises:
        InputError: A run is named twice.
    """
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path_parts[-length:]) for path_parts in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(paths[0], "a run is named twice", "Name different runs")


def _read_object(path: Path) -> dict | None:
    """A JSON object of a run; None if the file is not there."""
    if not path.is_file():
        return None
    data = json_file.read_json(path, "Remove or repair it")
    if not isinstance(data, dict):
        raise InputError(path, "not a JSON object", "Remove or repair it")
    return data
