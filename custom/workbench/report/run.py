"""What a run folder says of itself."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from custom.errors import InputError
from custom.evaluation.predictions import FILE_NAME
from custom.io import json_file


@dataclass
class Run:
    """A run folder.

    Attributes:
        path: The folder.
        name: What the report calls it.
        cfg: The config that it was trained with, resolved.
        rows: Its scalars, see :func:`custom.workbench.report.scalars.read_scalars`.
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
    def config_file(self) -> Path | None:
        """The config as it was named on the command line, if it is still there."""
        named = [Path(word) for word in self.record.get("command", [])[1:2]]
        return next((path for path in named if path.is_file()), None)


def read_json(path: Path) -> dict | None:
    """A JSON file of a run; None if it is not there.

    Raises:
        InputError: It is no JSON object.
    """
    if not path.is_file():
        return None
    data = json_file.read_json(path, "Remove or repair it")
    if not isinstance(data, dict):
        raise InputError(path, "not a JSON object", "Remove or repair it")
    return data


def newest_predictions(path: Path) -> Path | None:
    """The newest ``predictions.json`` of validation images below a run folder."""
    files = sorted(path.glob(f"*/{FILE_NAME}"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        if (read_json(file) or {}).get("info", {}).get("subset") == "val":
            return file
    return None


def parents(config: Path) -> tuple[list[str], Config]:
    """Names of a config's direct parents, and what it inherits from them.

    Raises:
        FileNotFoundError: A parent does not exist.
    """
    names: list[str] = []
    for node in ast.parse(config.read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "_base_":
            value = ast.literal_eval(node.value)
            names = [value] if isinstance(value, str) else list(value)
    absolute = [n if "::" in n else str((config.parent / n).resolve()) for n in names]
    # As MMEngine merges them, without the config's own lines.
    return names, Config.fromstring(f"_base_ = {absolute!r}", ".py")
