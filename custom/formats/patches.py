"""Instances of one image as patches, the form between all annotation formats.

A patch is the row and column of its first pixel in the image and a (h, w) bool mask.
Patches may overlap; their memory follows the area of their boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from custom.structures.rle import decode_runs, encode_runs, patch_runs

Patch = tuple[int, int, np.ndarray]


def tight(top: int, left: int, mask: np.ndarray) -> Patch | None:
    """Cut off empty rows and columns; None if nothing is left."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return int(top + rows[0]), int(left + columns[0]), mask[window]


def window(patch: Patch) -> tuple[slice, slice]:
    """The (rows, columns) of a patch in its image."""
    top, left, mask = patch
    return slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])


def from_labels(labels: np.ndarray) -> Iterator[tuple[int, Patch]]:
    """Yield the id and the patch of each instance of a label image.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    ids = None
    if int(labels.max(initial=0)) > 1 << 22:  # a table over all ids would be large
        shape = labels.shape
        ids, labels = np.unique(np.append(labels, 0), return_inverse=True)
        labels = labels[:-1].reshape(shape)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            patch = box[0].start, box[1].start, labels[box] == number
            yield number if ids is None else int(ids[number]), patch


def from_rles(rles: Sequence[dict]) -> list[Patch | None]:
    """Decode COCO RLE of one image into tight patches, None for an empty mask.

    Args:
        rles: N dicts ``{'size': [H, W], 'counts': bytes}``.

    Raises:
        ValueError: The counts of a mask are malformed or do not fill its image.
    """
    patches: list[Patch | None] = [None] * len(rles)
    if not len(rles):
        return patches
    height = int(rles[0]["size"][0])
    owner, start, end = decode_runs(rles)
    bounds = np.searchsorted(owner, np.arange(len(rles) + 1))
    for index, (a, b) in enumerate(pairwise(bounds.tolist())):
        if a == b:
            continue
        left, right = start[a] // height, (end[b - 1] - 1) // height + 1
        steps = np.zeros((right - left) * height + 1, np.int8)
        steps[start[a:b] - left * height] = 1
        # A run may begin where the one before it ends.
        steps[end[a:b] - left * height] -= 1
        columns = np.cumsum(steps[:-1], dtype=np.int8).reshape(-1, height)
        patches[index] = tight(0, left, columns.T.astype(bool))
    return patches


def to_rles(patches: Sequence[Patch], size: tuple[int, int]) -> list[dict]:
    """Encode patches as COCO RLE dicts (bytes)."""
    runs = []
    for number, (top, left, mask) in enumerate(patches):
        _, start, end = patch_runs(mask[None], np.array([[top, left]]), size[0])
        runs.append((np.full(len(start), number), start, end))
    columns = zip(*runs, strict=True) if runs else np.zeros((3, 1, 0), np.int64)
    owner, start, end = (np.concatenate(column) for column in columns)
    return encode_runs(owner, start, end, len(patches), size)


def paint(patches: Sequence[Patch], size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Lay patches into one label image, later ones over earlier.

    A patch is split or lost where others cover it.

    Args:
        patches: N patches.
        size: (H, W) of the image.

    Returns:
        (H, W) int32 label image in which patch n has the id n + 1, and the number of
        pixels that patches lost to later ones.
    """
    labels = np.zeros(size, np.int32)
    area = 0
    for number, patch in enumerate(patches, 1):
        labels[window(patch)][patch[2]] = number
        area += np.count_nonzero(patch[2])
    return labels, area - np.count_nonzero(labels)
