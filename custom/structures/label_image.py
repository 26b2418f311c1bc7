"""Instances of one label image: their ids, boxes and numbering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from custom.structures.rle import interval_pairs, run_pixels

# The largest id for which a table over all ids is the quick way.
TABLE_MAX = 1 << 22


def find_instances(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The instances of a label image: ids, boxes and the size of the foreground.

    By the runs of equal pixels, of which there are few: a third of the time of
    :func:`scipy.ndimage.find_objects`, which handles each pixel.

    Returns:
        (n,) int64 ids, ascending; (n, 4) float32 boxes; pixels that are not 0.
    """
    pixels, width = image.ravel(), image.shape[1]
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.append(0, edges)[: pixels.size]
    ids = pixels[starts]
    inside = np.flatnonzero(ids)
    if not len(inside):
        return np.zeros(0, np.int64), np.zeros((0, 4), np.float32), 0
    lasts = np.append(starts[1:], pixels.size) - 1
    ids = ids[inside]
    # NumPy sorts 16 bits by radix, several times faster than 32.
    small = ids.max() <= np.iinfo(np.uint16).max
    order = np.argsort(ids.astype(np.uint16) if small else ids, kind="stable")
    inside, ids = inside[order], ids[order]
    first = np.flatnonzero(np.diff(ids, prepend=0))
    start, last = starts[inside], lasts[inside]
    top, bottom = start // width, last // width
    left, right = start - top * width, last - bottom * width
    # A run that continues in the next row touches both sides.
    left[top < bottom], right[top < bottom] = 0, width - 1
    boxes = [np.minimum.reduceat(side, first) for side in (left, top)]
    boxes += [np.maximum.reduceat(side, first) + 1 for side in (right, bottom)]
    xyxy = np.stack(boxes, 1).astype(np.float32)
    return ids[first].astype(np.int64), xyxy, int((last - start + 1).sum())


def renumber(image: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Renumber the ids of a label image to ``first``, ``first + 1``, ...

    Returns:
        The (n,) ids as they were, ascending, and the new (H, W) int32 image.
    """
    top = int(image.max(initial=0))
    if top <= TABLE_MAX:
        # A table is an order of magnitude faster than sorting the pixels.
        present = np.flatnonzero(np.bincount(image.ravel(), minlength=1)[1:]) + 1
        table = np.zeros(top + 1, np.int32)
        table[present] = np.arange(first, first + len(present))
        return present, table[image]
    values, inverse = np.unique(image, return_inverse=True)
    present = values[values > 0]
    table = np.zeros(len(values), np.int32)
    table[values > 0] = np.arange(first, first + len(present))
    return present.astype(np.int64), table[inverse].reshape(image.shape)


def small_ids(plane: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pixels with ids that are small enough for a table.

    Returns:
        The (H, W) label image and the (N,) ids; an id without pixels may become any
        number above those in the image.
    """
    if int(plane.max(initial=0)) <= TABLE_MAX:
        return plane, ids
    present, dense = renumber(plane, 1)
    place = np.searchsorted(present, ids)
    known = present[np.minimum(place, len(present) - 1)] == ids
    return dense, np.where(known, place + 1, len(present) + 1)


def join_label_images(
    images: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Lay label images into as few planes as their overlaps allow.

    Args:
        images: Non-empty list of (H, W) integer label images, 0 = background.

    Returns:
        ``planes, plane_of, ids, originals, boxes``: (L, H, W) int32; of all N
        instances, ordered by image and id, the plane, the id there and the box as
        :class:`LabelMasks` takes them; for each image the ids as they were.
    """
    planes: list[np.ndarray] = []
    pixels: list[int] = []  # foreground pixels of each plane
    tops: list[int] = []  # the largest id of each plane
    plane_of: list[int] = []
    ids: list[np.ndarray] = []
    originals, boxes = [], []
    for image in images:
        present = None
        if int(image.max(initial=0)) > TABLE_MAX:
            present, image = renumber(image, 1)
        image = image.astype(np.int32, copy=False)
        image_ids, image_boxes, foreground = find_instances(image)
        originals.append(image_ids if present is None else present)
        boxes.append(image_boxes)
        for index, plane in enumerate(planes):
            used = [i for i, p in zip(ids, plane_of, strict=True) if p == index]
            shift = tops[index] if np.isin(image_ids, np.concatenate(used)).any() else 0
            # Disjoint foregrounds add up, and then OR joins the ids unchanged.
            merged = plane | (np.where(image, image + shift, 0) if shift else image)
            if np.count_nonzero(merged) == pixels[index] + foreground:
                image_ids, planes[index] = image_ids + shift, merged
                break
        else:
            index = len(planes)
            planes.append(image)
            pixels.append(0)
            tops.append(0)
        pixels[index] += foreground
        tops[index] = max(tops[index], int(image_ids.max(initial=0)))
        plane_of.append(index)
        ids.append(image_ids)
    joined = planes[0][None] if len(planes) == 1 else np.stack(planes)
    return (
        joined,
        np.repeat(plane_of, [len(part) for part in ids]),
        np.concatenate(ids),
        originals,
        np.concatenate(boxes),
    )


def draw_runs(
    owner: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    count: int,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw masks given as runs, each into the first plane that has room for it.

    The arguments are those of :func:`custom.structures.rle.encode_runs`.

    Returns:
        (L, H, W) int32 label images, in which mask i has the id i + 1, and the (N,)
        int64 plane of each.
    """
    earlier: list[set[int]] = [set() for _ in range(count)]  # that a mask overlaps
    for first, second in interval_pairs(start, end):
        pairs = np.unique(np.sort([owner[first], owner[second]], axis=0), axis=1)
        for low, high in pairs.T.tolist():
            earlier[high].add(low)
    plane_of = np.zeros(count, np.int64)
    for i, masks in enumerate(earlier):
        taken = {int(plane_of[j]) for j in masks}
        plane_of[i] = min(set(range(len(taken) + 1)) - taken)
    height, width = map(int, size)
    # RLE runs down the columns.
    columns = np.zeros((int(plane_of.max(initial=0)) + 1, width, height), np.int32)
    shift = plane_of[owner] * (width * height)
    pixels = run_pixels(start + shift, end + shift)
    columns.reshape(-1)[pixels] = np.repeat(owner + 1, end - start)
    planes = np.ascontiguousarray(columns.transpose(0, 2, 1))
    return planes, plane_of
