"""Folders with one bitmap per instance, as label images.

The layout of the 2021 nuclei task and of the 2018 Data Science Bowl: up to 1,862 files
of one megapixel for one image. Decoding them takes seconds; a label image that holds
the same takes milliseconds, so it is made once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError


def read_mask_folder(folder: str | Path, size: tuple[int, int]) -> list[np.ndarray]:
    """Read the bitmaps of a folder into label images.

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
    files = _files(folder)
    images = [np.zeros(size, np.int32)]

    def read(path: Path) -> tuple[tuple[slice, slice], np.ndarray]:
        return _read_bitmap(path, size)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for number, (window, mask) in enumerate(pool.map(read, files), 1):
            for image in images:
                if not image[window][mask].any():
                    break
            else:
                image = np.zeros(size, np.int32)
                images.append(image)
            image[window][mask] = number
    return images


def pack_mask_folder(
    folder: str | Path, size: tuple[int, int], cache: str | Path
) -> list[str]:
    """Write the label images of a folder into a cache, unless they are there.

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
        images = read_mask_folder(folder, size)
        temporary = Path(f"{target}.{os.getpid()}.{threading.get_ident()}")
        try:
            temporary.mkdir(parents=True)
            for number, image in enumerate(images, 1):
                path = temporary / f"labels{number}.tif"
                tifffile.imwrite(path, image, compression="zlib")
        except OSError as error:
            raise InputError(
                cache,
                f"label images cannot be written there ({error.strerror})",
                "Set CELL_LABEL_CACHE to a folder that can be written",
            ) from None
        _move(temporary, target)
    return sorted(map(str, target.glob("labels*.tif")))


def _move(folder: Path, target: Path) -> None:
    """Give a complete folder its name, unless another process was faster."""
    try:
        folder.rename(target)
    except OSError:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _files(folder: str | Path) -> list[Path]:
    files = sorted(Path(folder).glob("*.png"))
    if not files:
        raise InputError(
            folder,
            "there are no masks (*.png) in it",
            "Expected is one bitmap per instance; take an image without any out of "
            "the data set",
        )
    return files


def _read_bitmap(
    path: Path, size: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The tight (rows, columns) of an instance, and its (h, w) bool mask there."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(path, "not a readable image", "Get the file again")
    if image.shape != tuple(size):
        raise InputError(
            path,
            f"its shape is {image.shape}, expected is one channel of the image's "
            f"size {tuple(size)}",
            "Mask and image must show the same pixels",
        )
    x, y, width, height = cv2.boundingRect((image > 0).astype(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    patch = image[window]
    mask = patch > 0
    if not mask.any():
        raise InputError(path, "it shows no instance", "Remove the file")
    if (patch[mask] != patch[mask][0]).any():
        raise InputError(
            path,
            f"it holds {len(np.unique(patch[mask]))} different values besides 0",
            "Save each instance in a file of its own, as 0 and 255",
        )
    return window, mask
