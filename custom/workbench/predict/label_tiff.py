"""Label images as TIFF that ImageJ and napari read, with the size of a pixel."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

# Rows that are made and compressed at once.
BAND = 256
# Beyond this many bytes ImageJ's TIFF cannot hold the image.
_BIG = 1 << 31


def label_dtype(count: int) -> type[np.generic]:
    """The type of a label image with ids up to ``count``: 16 bits if they suffice.

    Beyond 65,535 ids float32, because ImageJ lacks 32-bit integers; they are exact up
    to 2^24, more than the cells of any slide.
    """
    return np.uint16 if count <= np.iinfo(np.uint16).max else np.float32


def write_label_tiff(
    path: Path,
    rows: Callable[[int, int], np.ndarray],
    size: tuple[int, int],
    dtype: type[np.generic],
    mpp: float | None,
) -> None:
    """Write a label image band by band, so that it need not fit into memory.

    Deflate. The resolution tags and ImageJ's unit hold the size of a pixel.

    Args:
        path: The file.
        rows: Gives rows y1 to y2 of the image, (y2 - y1, W) of any number type.
        size: (H, W) of the image.
        dtype: Of the file.
        mpp: Micrometres per pixel; None if not known.
    """
    height, width = size

    def bands():
        for start in range(0, height, BAND):
            band = rows(start, min(start + BAND, height))
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
        rowsperstrip=min(BAND, height),
        compression="zlib",
        photometric="minisblack",
        imagej=not big,
        bigtiff=big,
        **known,
    )
