"""The files of one image, each written whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from custom.errors import InputError
from custom.inference.segmentation import Segmentation
from custom.io.atomic import write_atomically
from custom.io.label_tiff import label_dtype, write_label_tiff

KINDS = ("overlay", "labels", "geojson", "coco", "csv", "parquet")


def check_kinds(kinds: list[str]) -> None:
    """Refuse kinds that cannot be written here.

    Raises:
        InputError: It is so.
    """
    if "parquet" in kinds and find_spec("pyarrow") is None:
        raise InputError(
            "parquet",
            "pyarrow is not installed, which writes it",
            "Use csv, or install it: pip install pyarrow",
        )


def files_of(kind: str, base: Path, class_names: tuple[str, ...]) -> list[Path]:
    """The files of a kind.

    Args:
        kind: One of :data:`KINDS`.
        base: Folder and name of the image.
        class_names: The classes.
    """
    endings = {
        "overlay": ["_overlay.png"],
        "labels": [
            "_labels.tif",
            "_classes.tif",
            *(f"_{i}-{_safe(name)}.tif" for i, name in enumerate(class_names, 1)),
        ],
        "geojson": [".geojson"],
        "coco": [".json"],
        "csv": [".csv"],
        "parquet": [".parquet"],
    }
    return [base.with_name(base.name + ending) for ending in endings[kind]]


def write_files(
    kind: str,
    found: Segmentation,
    base: Path,
    radius: float = 100.0,
    radius_um: float = 50.0,
) -> list[Path]:
    """Write the files of a kind; those that exist are replaced.

    * ``overlay``: PNG, see :meth:`Segmentation.overlay`.
    * ``labels``: TIFFs: ``_labels``, all cells by their numbers; ``_classes``, see
      :attr:`Segmentation.class_map`; ``_<k>-<class>``, the cells of class k by
      their numbers. Of cells that overlap the better one is on top.
    * ``geojson``: for QuPath, see :meth:`Segmentation.to_geojson`.
    * ``coco``: see :meth:`Segmentation.to_coco`.
    * ``csv``, ``parquet``: a row for each cell, see
      :func:`custom.inference.measure.measure`.

    Args:
        kind: One of :data:`KINDS`.
        found: The cells.
        base: Folder and name of the image.
        radius: Of neighbours, in pixels.
        radius_um: Of neighbours, in micrometres.

    Returns:
        The files.

    Raises:
        InputError: A file cannot be written.
    """
    files = files_of(kind, base, found.class_names)
    if kind == "labels":
        _write_labels(found, files)
        return files
    with write_atomically(files[0]) as part:
        if kind == "overlay":
            bgr = cv2.cvtColor(found.overlay(), cv2.COLOR_RGB2BGR)
            part.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        elif kind == "geojson":
            head = {"type": "FeatureCollection"}
            _write_rows(part, head, "features", found.features())
        elif kind == "coco":
            _write_rows(part, found.coco_head(), "annotations", found.annotations())
        elif kind == "csv":
            frame = found.to_frame(radius, radius_um)
            frame.to_csv(part, index=False, float_format="%.5f")
        else:
            found.to_frame(radius, radius_um).to_parquet(part, index=False)
    return files


def _write_labels(found: Segmentation, files: list[Path]) -> None:
    numbers = label_dtype(len(found))

    def classes(y1: int, y2: int) -> np.ndarray:
        return found.class_values[found.label_rows(y1, y2)]

    rows: list[tuple[Callable, type]] = [
        (found.label_rows, numbers),
        (classes, found.class_values.dtype.type),
        *((partial(found.label_rows, name=n), numbers) for n in found.class_names),
    ]
    for path, (read, dtype) in zip(files, rows, strict=True):
        with write_atomically(path) as part:
            write_label_tiff(part, read, found.size, dtype, found.mpp)


def _write_rows(path: Path, head: dict, key: str, rows: Iterator[dict]) -> None:
    """Write ``{**head, key: [*rows]}`` as JSON, one row in memory at a time."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + f', "{key}": [')
        separator = "\n"
        for row in rows:
            file.write(separator + json.dumps(row))
            separator = ",\n"
        file.write("]}\n")


def _safe(name: str) -> str:
    """The name of a class as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)
