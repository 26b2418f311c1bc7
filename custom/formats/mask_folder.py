"""Folders with one bitmap per instance.

The layout of the 2021 nuclei task and of the 2018 Data Science Bowl,
``<image>/images/<image>.png`` with ``<image>/masks/*.png``: up to 1,862 files of one
megapixel for one image. Decoding them takes seconds; a label image that holds the same
takes milliseconds, so training makes one, once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source
from custom.formats.patches import Patch, window
from custom.formats.sources import check_names
from custom.io.atomic import part_of
from custom.io.image import image_size, read_bitmap, read_image
from custom.io.names import IGNORE, IMAGE_SUFFIXES, NUCLEUS, files_below


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
    for number, patch in enumerate(_read_bitmaps(files, size), 1):
        place, mask = window(patch), patch[2]
        for image in images:
            if not image[place][mask].any():
                break
        else:
            image = np.zeros(size, np.int32)
            images.append(image)
        image[place][mask] = number
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
        temporary = part_of(target)
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


def _read_bitmaps(files: Sequence[Path], size: tuple[int, int]) -> Iterator[Patch]:
    """Decode bitmaps in threads, a few ahead of what is taken."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(_read_bitmap, size=size), files)


def _read_bitmap(path: Path, size: tuple[int, int]) -> Patch:
    image = read_bitmap(path)
    if image.shape != tuple(size):
        raise InputError(
            path,
            f"its shape is {image.shape}, expected is one channel of the image's "
            f"size {tuple(size)}",
            "Mask and image must show the same pixels",
        )
    x, y, width, height = cv2.boundingRect((image > 0).astype(np.uint8))
    patch = image[y : y + height, x : x + width]
    mask = patch > 0
    if not mask.any():
        raise InputError(path, "it shows no instance", "Remove the file")
    if (patch[mask] != patch[mask][0]).any():
        raise InputError(
            path,
            f"it holds {len(np.unique(patch[mask]))} different values besides 0",
            "Save each instance in a file of its own, as 0 and 255",
        )
    return y, x, mask


def find_mask_folders(root: Path) -> Source:
    """The images of a folder.

    Args:
        root: Holds ``<image>/images/<image>.<suffix>`` and ``<image>/masks``.

    Raises:
        InputError: There is none, or a folder has not one image.
    """
    folders = sorted(path.parent for path in root.glob("[!.]*/images"))
    if not folders:
        raise InputError(
            root,
            "no image folder in it",
            "Expected is <image>/images/<image>.png with <image>/masks/*.png",
        )
    items = []
    for number, folder in enumerate(folders, 1):
        images = files_below(folder / "images", IMAGE_SUFFIXES)
        if len(images) != 1:
            raise InputError(
                folder / "images", f"it holds {len(images)} images, not 1", "Keep one"
            )
        masks = files_below(folder / "masks", (".png",))
        items.append(
            Item(
                folder.name,
                (images[0], *masks),
                images[0].relative_to(root).as_posix(),
                partial(read_masks, images[0], masks),
                number,
            )
        )
    return Source(root, check_names(items), (NUCLEUS,))


def read_masks(image: Path, masks: Sequence[Path]) -> Annotated:
    """Read one image and its bitmaps, which may be none.

    Raises:
        InputError: See :func:`read_mask_folder` and :mod:`custom.io.image`.
    """
    found = Annotated(image, image_size(image), partial(read_image, image))
    for patch in _read_bitmaps(masks, found.size):
        found.add(NUCLEUS, patch)
    return found


class MaskFolderWriter:
    """Writes the same folders: no classes, but instances may overlap."""

    def write(self, item: Item, found: Annotated, folder: Path) -> dict:
        """Write the folder of one image; returns ``written`` for the manifest."""
        target = folder / item.name
        (target / "images").mkdir(parents=True)
        (target / "masks").mkdir()
        image = cv2.cvtColor(found.read_image(), cv2.COLOR_RGB2BGR)
        write_png(target / "images" / f"{item.name}.png", image)
        count = 0
        for name, patch in zip(found.classes, found.patches, strict=True):
            if name == IGNORE:
                found.dropped["a region to ignore"] += 1
                continue
            count += 1
            bitmap = np.zeros(found.size, np.uint8)
            bitmap[window(patch)][patch[2]] = 255
            write_png(target / "masks" / f"{item.name}_{count:05}.png", bitmap)
        return {"written": {NUCLEUS: count}}

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Nothing is left to do."""


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a PNG file; OpenCV's own function hides why it fails.

    Args:
        path: Where to.
        image: (H, W) or BGR (H, W, 3), uint8.
    """
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
