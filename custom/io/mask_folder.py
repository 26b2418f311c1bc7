"""Folders with one bitmap per instance.

The layout of the 2021 nuclei task and of the 2018 Data Science Bowl,
``<image>/images/<image>.png`` with ``<image>/masks/*.png``: up to 1,862 files of one
megapixel for one image. Decoding them takes seconds; label images of the same take
milliseconds, so training makes them, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError
from custom.io.atomic import part_of
from custom.io.image import read_bitmap


def read_mask_folder(folder: str | Path, size: tuple[int, int]) -> list[np.ndarray]:
    """Label images of a folder of bitmaps.

    Args:
        folder: Holds ``*.png``, one channel each; any value but 0 is the instance.
        size: (H, W) of the image.

    Returns:
        (H, W) int32 label images, one unless instances overlap. The n-th file in
        alphabetical order has the id n.

    Raises:
        InputError: The folder is absent, or a file is not readable, has another size
            or several channels, is empty, or holds more than one value besides 0.
    """
    label_images = [np.zeros(size, np.int32)]
    bitmaps = read_bitmaps(_files(folder), size)
    for number, (y, x, mask) in enumerate(bitmaps, 1):
        window = np.s_[y : y + mask.shape[0], x : x + mask.shape[1]]
        for labels in label_images:
            if not labels[window][mask].any():
                break
        else:
            labels = np.zeros(size, np.int32)
            label_images.append(labels)
        labels[window][mask] = number
    return label_images


def pack_mask_folder(
    folder: str | Path, size: tuple[int, int], cache: str | Path
) -> list[str]:
    """Paths of the label images of a folder, which are written if they are absent.

    Args:
        folder: See :func:`read_mask_folder`.
        size: (H, W) of the image.
        cache: Folder of the label images. They are used as long as each bitmap has the
            size and time of change that it had then.

    Returns:
        Paths of label images that :func:`custom.io.image.read_labels` reads.

    Raises:
        InputError: See :func:`read_mask_folder`, or the cache cannot be written.
    """
    key = hashlib.sha256(f"{os.path.realpath(folder)} {size}".encode())
    for path in _files(folder):
        stat = path.stat()
        key.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    target = Path(cache).expanduser() / key.hexdigest()[:32]
    if not target.is_dir():
        _write_packed(read_mask_folder(folder, size), target)
    return sorted(map(str, target.glob("labels*.tif")))


def _write_packed(label_images: Sequence[np.ndarray], target: Path) -> None:
    """Write a folder of label images atomically."""
    try:
        part = part_of(target)
        part.mkdir(parents=True)
        try:
            for number, labels in enumerate(label_images, 1):
                path = part / f"labels{number}.tif"
                tifffile.imwrite(path, labels, compression="zlib")
            part.rename(target)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            if not target.is_dir():  # another process was faster
                raise
    except OSError as error:
        raise InputError(
            target.parent,
            f"label images cannot be written there ({error.strerror})",
            "Set CELL_LABEL_CACHE to a folder that can be written",
        ) from None


def _files(folder: str | Path) -> list[Path]:
    files = sorted(Path(folder).glob("*.png"))
    if not files:
        raise InputError(
            folder,
            "it lacks masks (*.png)",
            "Expected: one bitmap per instance; take an image without any out of "
            "the data set",
        )
    return files


def read_bitmaps(
    files: Sequence[Path], size: tuple[int, int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (y, x, (h, w) bool mask) of each file, cut to its instance.

    Decodes in threads, a few files ahead of what is taken.

    Raises:
        InputError: See :func:`read_mask_folder`.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(_read_bitmap, size=size), files)


def _read_bitmap(path: Path, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    bitmap = read_bitmap(path)
    if bitmap.shape != tuple(size):
        raise InputError(
            path,
            f"its shape is {bitmap.shape}, expected is one channel of the image's "
            f"size {tuple(size)}",
            "Mask and image must show the same pixels",
        )
    x, y, width, height = cv2.boundingRect((bitmap > 0).astype(np.uint8))
    window = bitmap[y : y + height, x : x + width]
    mask = window > 0
    if not mask.any():
        raise InputError(path, "it is empty", "Remove the file")
    if (window[mask] != window[mask][0]).any():
        raise InputError(
            path,
            f"it holds {len(np.unique(window[mask]))} different values besides 0",
            "Save each instance in a file of its own, as 0 and 255",
        )
    return y, x, mask
