"""Run-length encoding of many small masks at once.

COCO's RLE runs down the columns of the full image. ``pycocotools.mask.encode`` reads
every pixel of one full bitmap per instance; the functions here read the pixels of a
label image once, or those of the instances' boxes, and give the same bytes.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def encode_runs(
    owner: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    count: int,
    size: tuple[int, int],
) -> list[dict]:
    """Encode runs of foreground pixels as COCO RLE.

    Args:
        owner: (R,) int, the instance 0..count-1 of each run.
        start: (R,) int, its first pixel, counted down the columns: ``x * H + y``.
        end: (R,) int, one past its last pixel. The runs of an owner are sorted and do
            not overlap; runs that touch are joined.
        count: Number of instances; one without runs gets an empty mask.
        size: (H, W) of the image.

    Returns:
        ``count`` dicts ``{'size': [H, W], 'counts': bytes}``, equal to
        ``pycocotools.mask.encode`` of the same masks.
    """
    height, width = map(int, size)
    order = np.argsort(owner, kind="stable")
    owner, start, end = owner[order], start[order], end[order]
    if len(owner) > 1:
        touches = (owner[1:] == owner[:-1]) & (start[1:] == end[:-1])
        first = np.flatnonzero(np.r_[True, ~touches])
        last = np.r_[first[1:] - 1, len(owner) - 1]
        owner, start, end = owner[first], start[first], end[last]
    # The run lengths of one instance are the differences of 0, start, end, start,
    # ..., H*W; COCO leaves out a last run of length 0.
    bounds = np.searchsorted(owner, np.arange(count + 1))
    edges = np.stack([start, end], axis=1).reshape(-1)
    uncompressed = []
    for first, last in zip(2 * bounds[:-1], 2 * bounds[1:], strict=True):
        own = np.concatenate(([0], edges[first:last], [height * width]))
        counts = np.diff(own)
        if counts[-1] == 0 and len(counts) > 1:
            counts = counts[:-1]
        uncompressed.append({"size": [height, width], "counts": counts.tolist()})
    if not uncompressed:
        return []
    return coco_mask.frPyObjects(uncompressed, height, width)


def encode_label_image(labels: np.ndarray, ids: np.ndarray) -> list[dict]:
    """Encode instances of one label image.

    Args:
        labels: (H, W) integer label image.
        ids: (N,) ids to encode, without duplicates; an id that is not in the image
            gives an empty mask.

    Returns:
        N COCO RLE dicts with bytes.
    """
    ids = np.asarray(ids)
    flat = labels.T.ravel()
    if len(ids) == 0 or flat.size == 0:
        return encode_runs(*np.zeros((3, 0), np.int64), len(ids), labels.shape)
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = np.concatenate(([0], change))
    end = np.concatenate((change, [flat.size]))
    value = flat[start]
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], value), len(ids) - 1)
    owner = order[place]
    keep = (value > 0) & (ids[owner] == value)
    return encode_runs(owner[keep], start[keep], end[keep], len(ids), labels.shape)


def patch_runs(
    patches: np.ndarray, corners: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of a stack of patches, in the pixels of the full image.

    Args:
        patches: (N, h, w) bool.
        corners: (N, 2) int, (y, x) of each patch's first pixel in the image. Pixels
            outside the image must be False.
        height: H of the image.

    Returns:
        ``owner, start, end`` as :func:`encode_runs` takes them.
    """
    count, h, w = patches.shape
    # One row of background below each column ends every run with its column.
    columns = np.zeros((count, w, h + 2), np.int8)
    columns[:, :, 1:-1] = patches.transpose(0, 2, 1)
    step = np.diff(columns, axis=2).reshape(-1)
    first, last = np.flatnonzero(step == 1), np.flatnonzero(step == -1)
    column, y = np.divmod(first, h + 1)
    owner, x = np.divmod(column, w)
    start = (corners[owner, 1] + x) * height + corners[owner, 0] + y
    return owner, start, start + last - first


def to_json(rle: dict) -> dict:
    """An RLE as JSON takes it: ``counts`` as str instead of bytes."""
    counts = rle["counts"]
    counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": counts}


def as_rles(masks) -> list[dict]:
    """Any kind of instance masks as N COCO RLE dicts (bytes).

    Args:
        masks: ``LabelMasks`` or ``RoIMasks``; or, from stock parts, ``BitmapMasks`` or
            an (N, H, W) array or tensor of bitmaps.
    """
    if hasattr(masks, "to_rle"):
        return masks.to_rle()
    if hasattr(masks, "to_ndarray"):
        masks = masks.to_ndarray()
    elif hasattr(masks, "cpu"):
        masks = masks.cpu().numpy()
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
