"""Label images of an image in one small file.

The released label images are float64, one per class: eight bytes per pixel and class.
The cache keeps the instances of an image as they are used, mostly one plane of 16 bits,
compressed with Zstandard, about a hundredth of the size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from custom.errors import InputError
from custom.structures import LabelMasks

from .image import read_labels

_FORMAT = b"MMCELL1\n"


def read_label_masks(
    files: Sequence[tuple[int, str]], size: tuple[int, int], cache: str | None = None
) -> tuple[LabelMasks, np.ndarray]:
    """Read the label images of one image.

    Args:
        files: (label, path) of each class that is present; may be empty.
        size: (H, W) of the image.
        cache: Folder of cached label images; None reads the files themselves. An
            entry is made when it is missing, is used only while every file has the
            size and time of change that it had then, and is checked by a checksum; a
            damaged one is made again. Several processes may share the folder.

    Returns:
        The instances, ordered by label and id, and their (N,) int64 labels.

    Raises:
        InputError: See :func:`custom.io.image.read_labels`, or the sizes differ.
    """
    if not files:
        empty, _ = LabelMasks.from_label_images([np.zeros(size, np.int32)])
        return empty, np.zeros(0, np.int64)
    entry = _entry_path(files, cache) if cache else None
    found = _read_entry(entry) if entry else None
    if found is None:
        found = _read_files(files, size)
        if entry:
            _write_entry(entry, *found)
    masks, _ = found
    if (masks.height, masks.width) != tuple(size):
        raise _wrong_size(files[0][1], (masks.height, masks.width), size)
    return found


def _wrong_size(path: str, found: tuple, size: tuple) -> InputError:
    return InputError(
        path,
        f"its size (H, W) is {found}, its image's is {tuple(size)}",
        "Label image and image must show the same pixels",
    )


def _read_files(
    files: Sequence[tuple[int, str]], size: tuple[int, int]
) -> tuple[LabelMasks, np.ndarray]:
    images = [read_labels(path) for _, path in files]
    for (_, path), image in zip(files, images, strict=True):
        if image.shape != tuple(size):
            raise _wrong_size(path, image.shape, size)
    masks, ids = LabelMasks.from_label_images(images)
    counts = [len(own) for own in ids]
    return masks, np.repeat([label for label, _ in files], counts)


def _entry_path(files: Sequence[tuple[int, str]], cache: str) -> Path | None:
    """Where the entry of these files lies; None if a file is missing."""
    key = hashlib.sha256()
    for label, path in files:
        try:
            stat = os.stat(path)
        except FileNotFoundError:
            return None  # reading it says so
        absolute = os.path.realpath(path)
        key.update(f"{label} {absolute} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return Path(cache).expanduser() / f"{key.hexdigest()[:32]}.labels"


def _read_entry(path: Path) -> tuple[LabelMasks, np.ndarray] | None:
    try:
        data = path.read_bytes()
        start = len(_FORMAT) + 8
        header_size, checksum = np.frombuffer(data[len(_FORMAT) : start], np.uint32)
        if not data.startswith(_FORMAT) or zlib.crc32(data[start:]) != checksum:
            return None
        header = json.loads(data[start : start + header_size])
        raw = imagecodecs.zstd_decode(data[start + header_size :])
        arrays, offset = [], 0
        for dtype, shape in header:
            count = int(np.prod(shape))
            array = np.frombuffer(raw, dtype, count, offset).reshape(shape)
            arrays.append(array)
            offset += array.nbytes
    except (OSError, ValueError):
        return None  # not there, or cut off
    planes, plane_of, ids, boxes, labels = arrays
    masks = LabelMasks(planes.astype(np.int32), plane_of, ids, boxes)
    return masks, labels.astype(np.int64)


def _write_entry(path: Path, masks: LabelMasks, labels: np.ndarray) -> None:
    narrow = masks.ids.max(initial=0) <= np.iinfo(np.uint16).max
    planes = masks.planes.astype(np.uint16) if narrow else masks.planes
    arrays = [planes, masks.plane_of, masks.ids, masks.boxes(), labels]
    header = json.dumps([(a.dtype.str, a.shape) for a in arrays]).encode()
    raw = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    body = header + imagecodecs.zstd_encode(raw, level=3)
    prefix = np.array([len(header), zlib.crc32(body)], np.uint32).tobytes()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_FORMAT + prefix + body)
        os.replace(temporary, path)
    except OSError:
        # A full or read-only disk costs the speed, not the run.
        with contextlib.suppress(OSError):
            temporary.unlink()
