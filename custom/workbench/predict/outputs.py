"""The files of one image, each written atomically."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError
from custom.inference.segmentation import Segmentation
from custom.io.atomic import write_atomically

KINDS = ("overlay", "labels", "geojson", "coco", "csv", "parquet")
# A PNG of more pixels a side takes minutes and hundreds of megabytes.
_LARGEST_PNG = 4096
# Lengths of runs have 32 bits in COCO's RLE.
_MOST_COCO_PIXELS = 1 << 32
# Rows of a label image that are made and compressed at once.
_BAND = 256
# Beyond this many bytes ImageJ's TIFF cannot hold an image.
_BIG = 1 << 31


def check_kinds(
    kinds: Sequence[str], source: str = "", size: tuple[int, int] = (0, 0)
) -> None:
    """Refuse kinds of files that cannot be written, before anything is predicted.

    Raises:
        InputError: Parquet is asked for and pyarrow is not installed, or COCO's RLE
            cannot express the pixels of an image of (H, W) ``size``.
    """
    if "parquet" in kinds and find_spec("pyarrow") is None:
        raise InputError(
            "parquet",
            "pyarrow is not installed, which writes it",
            "Use csv, or install it: pip install pyarrow",
        )
    if "coco" in kinds and size[0] * size[1] >= _MOST_COCO_PIXELS:
        raise InputError(
            source,
            f"{size[1]}x{size[0]} pixels are too many for COCO's RLE, which counts to "
            "2^32",
            "Write geojson or labels instead of coco, or predict a --region",
        )


def files_of(kind: str, base: Path, class_names: Sequence[str]) -> list[Path]:
    """The files that one of :data:`KINDS` can have; of an overlay one of the two.

    ``base`` is the folder and name of the image.
    """
    safe = [re.sub(r"[^\w.-]+", "_", name) for name in class_names]
    endings = {
        "overlay": ["_overlay.png", "_overlay.jpg"],
        "labels": [
            "_labels.tif",
            "_classes.tif",
            *(f"_{number}-{name}.tif" for number, name in enumerate(safe, 1)),
        ],
        "coco": [".json"],
    }
    return [base.with_name(base.name + e) for e in endings.get(kind, [f".{kind}"])]


def write_files(
    kind: str,
    cells: Segmentation,
    base: Path,
    radius: float = 100.0,
    radius_um: float = 50.0,
) -> list[Path]:
    """Write the files of a kind; those that exist are replaced.

    * ``overlay``: see :meth:`Segmentation.overlay`; PNG, or JPEG beyond 4,096 pixels.
    * ``labels``: TIFFs: ``_labels``, all cells by their numbers; ``_classes``, see
      :attr:`Segmentation.class_map`; ``_<k>-<class>``, the cells of class k by
      their numbers. Of cells that overlap the better one is on top.
    * ``geojson``: for QuPath, see :meth:`Segmentation.to_geojson`.
    * ``coco``: see :meth:`Segmentation.to_coco`.
    * ``csv``, ``parquet``: a row for each cell, see
      :func:`custom.inference.measure.measure`, with the neighbours within ``radius``
      pixels and ``radius_um`` micrometres.

    Raises:
        InputError: A file cannot be written.
    """
    files = files_of(kind, base, cells.class_names)
    if kind == "labels":
        _write_labels(cells, files)
        return files
    if kind == "overlay":
        return [_write_overlay(cells, files)]
    with write_atomically(files[0]) as part:
        if kind == "geojson":
            head = {"type": "FeatureCollection"}
            _write_rows(part, head, "features", cells.features())
        elif kind == "coco":
            _write_rows(part, cells.coco_head(), "annotations", cells.annotations())
        elif kind == "csv":
            frame = cells.to_frame(radius, radius_um)
            frame.to_csv(part, index=False, float_format="%.5f")
        else:
            cells.to_frame(radius, radius_um).to_parquet(part, index=False)
    return files


def _write_overlay(cells: Segmentation, files: list[Path]) -> Path:
    bgr = cv2.cvtColor(cells.overlay(), cv2.COLOR_RGB2BGR)
    path, other = files[::-1] if max(bgr.shape) > _LARGEST_PNG else files
    with write_atomically(path) as part:
        part.write_bytes(cv2.imencode(path.suffix, bgr)[1].tobytes())
    other.unlink(missing_ok=True)  # of this image, at another size
    return path


def _write_labels(cells: Segmentation, files: list[Path]) -> None:
    # ImageJ lacks 32-bit integers; float32 is exact up to 2^24.
    numbers = np.uint16 if len(cells) <= np.iinfo(np.uint16).max else np.float32

    def classes(y1: int, y2: int) -> np.ndarray:
        return cells.class_values[cells.label_rows(y1, y2)]

    rows: list[tuple[Callable, type]] = [
        (cells.label_rows, numbers),
        (classes, cells.class_values.dtype.type),
        *((partial(cells.label_rows, name=n), numbers) for n in cells.class_names),
    ]
    for path, (read, dtype) in zip(files, rows, strict=True):
        with write_atomically(path) as part:
            _write_label_tiff(part, read, cells.size, dtype, cells.mpp)


def _write_label_tiff(
    path: Path,
    rows: Callable[[int, int], np.ndarray],
    size: tuple[int, int],
    dtype: type[np.generic],
    mpp: float | None,
) -> None:
    """Write a label image for ImageJ and napari band by band, with its pixel size.

    ``rows`` gives rows y1 to y2 of the image, (y2 - y1, W) of any number type.
    """
    height, width = size

    def bands() -> Iterator[bytes]:
        for start in range(0, height, _BAND):
            band = rows(start, min(start + _BAND, height))
            yield zlib.compress(np.ascontiguousarray(band, dtype).tobytes())

    big = height * width * np.dtype(dtype).itemsize > _BIG
    known: dict = {}
    if mpp is not None and big:
        known = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "centimeter"}
    elif mpp is not None:
        known = {"resolution": (1 / mpp, 1 / mpp), "metadata": {"unit": "um"}}
    tifffile.imwrite(
        path,
        bands(),
        shape=size,
        dtype=dtype,
        rowsperstrip=min(_BAND, height),
        compression="zlib",
        photometric="minisblack",
        imagej=not big,
        bigtiff=big,
        **known,
    )


def _write_rows(path: Path, head: dict, key: str, rows: Iterator[dict]) -> None:
    """Write ``{**head, key: [*rows]}`` as JSON, one row in memory at a time."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + f', "{key}": [')
        separator = "\n"
        for row in rows:
            file.write(separator + json.dumps(row))
            separator = ",\n"
        file.write("]}\n")
