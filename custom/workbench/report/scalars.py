"""The scalars that a run has logged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from custom.errors import InputError


def read_scalars(run: Path) -> list[dict]:
    """The scalars of a run in order; a resumed run has several logs.

    A run that was killed may have left half a line at the end of its log.

    Raises:
        InputError: There are none.
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
    """Steps and values of one scalar; a step that was run again counts once."""
    points = {row["step"]: row[key] for row in rows if key in row and "step" in row}
    return list(points), list(points.values())


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths of runs that tell them apart.

    Raises:
        InputError: A run is named twice.
    """
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(paths[0], "a run is named twice", "Name different runs")
