"""Run-length encoding of many small masks at once.

COCO's RLE runs down the columns of the full image. ``pycocotools.mask.encode`` reads
every pixel of one full bitmap per instance; the functions here read the pixels of a
label image once, or those of the instances' boxes, and give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from pycocotools import mask as coco_mask

# Pairs of runs that are compared at once; bounds the memory, not the result.
_PAIRS_AT_ONCE = 1 << 20
_NO_RUNS: np.ndarray = np.zeros(0, np.int64)


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
    touches = (owner[1:] == owner[:-1]) & (start[1:] == end[:-1])
    first = np.flatnonzero(np.append(len(owner) > 0, ~touches))
    last = np.append(first[1:], len(owner))[: len(first)] - 1
    owner, start, end = owner[first], start[first], end[last]
    # The numbers of an instance are gap, length, gap, length, ..., and the rest of the
    # image unless it is 0.
    runs = np.bincount(owner, minlength=count)
    stops = np.cumsum(runs)
    rest = np.full(count, height * width)
    rest[runs > 0] -= end[stops[runs > 0] - 1]
    length = 2 * runs + ((rest > 0) | (runs == 0))
    bounds = np.append(0, np.cumsum(length))
    numbers = np.empty(bounds[-1], np.int64)
    place = bounds[owner] + 2 * (np.arange(len(owner)) - (stops - runs)[owner])
    before = np.append(0, end[:-1])[: len(end)]
    numbers[place] = start - np.where(place == bounds[owner], 0, before)
    numbers[place + 1] = end - start
    has_rest = length % 2 == 1
    numbers[bounds[1:][has_rest] - 1] = rest[has_rest]
    texts, stops = _write_numbers(numbers, bounds)
    return [
        {"size": [height, width], "counts": texts[a:b]}
        for a, b in pairwise(stops.tolist())
    ]


def _write_numbers(numbers: np.ndarray, bounds: np.ndarray) -> tuple[bytes, np.ndarray]:
    """The characters of run lengths, as ``rleToString`` in COCO's ``maskApi.c``.

    Of (M,) int64 numbers, with the (N + 1,) bounds of the instances; those of the
    characters are returned too.
    """
    place = np.arange(len(numbers)) - np.repeat(bounds[:-1], np.diff(bounds))
    later = np.flatnonzero(place > 2)
    change = numbers.copy()
    change[later] -= numbers[later - 2]
    # Five bits per character, and one more for the sign.
    digits = np.frexp(np.where(change < 0, ~change, change).astype(float))[1] // 5 + 1
    stops = np.append(0, np.cumsum(digits))
    digit = np.arange(stops[-1]) - np.repeat(stops[:-1], digits)
    codes = (np.repeat(change, digits) >> 5 * digit) & 31
    codes += np.where(digit < np.repeat(digits, digits) - 1, 80, 48)
    return codes.astype(np.uint8).tobytes(), stops[bounds]


def label_runs(
    labels: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of instances of one label image, in one pass over its pixels.

    Args:
        labels: (H, W) integers.
        ids: (N,) without duplicates; one that is not in the image has no runs.

    Returns:
        ``owner, start, end`` as :func:`encode_runs` takes them, sorted by ``start``.
    """
    ids = np.asarray(ids)
    flat = labels.T.ravel()
    if len(ids) == 0 or flat.size == 0:
        return _NO_RUNS, _NO_RUNS, _NO_RUNS
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = np.concatenate(([0], change))
    end = np.concatenate((change, [flat.size]))
    value = flat[start]
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], value), len(ids) - 1)
    owner = order[place]
    keep = (value > 0) & (ids[owner] == value)
    return owner[keep], start[keep], end[keep]


def run_pixels(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(P,) int64 pixels of (R,) runs, one run after the other."""
    length = end - start
    first = np.repeat(start - np.cumsum(length) + length, length)
    return first + np.arange(len(first))


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


def decode_runs(
    rles: Sequence[dict],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of compressed COCO RLE, the inverse of :func:`encode_runs`.

    All masks are decoded at once, without bitmaps. The characters are those of
    ``rleFrString`` in COCO's ``maskApi.c``: six bits each, five of them a digit, and
    from the fourth number on the difference to the number before the last.

    Args:
        rles: N dicts ``{'size': [H, W], 'counts': bytes or str}``.

    Returns:
        ``owner, start, end``, each (R,) int64, as :func:`encode_runs` takes them.

    Raises:
        ValueError: The counts of a mask are malformed or do not fill its image.
    """
    texts = [rle["counts"] for rle in rles]
    texts = [text.encode() if isinstance(text, str) else text for text in texts]
    pixels = np.array([rle["size"][0] * rle["size"][1] for rle in rles], np.int64)
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
    final = (codes & 0x20) == 0  # the last digit of a number
    if any(not text for text in texts) or not (
        np.all((codes >= 0) & (codes < 64)) and np.all(final[stops - 1])
    ):
        raise ValueError("a mask has malformed RLE counts")
    if not texts:
        return _NO_RUNS, _NO_RUNS, _NO_RUNS
    last = np.flatnonzero(final)
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last + 1 - first
    if digits.max() > 10:
        raise ValueError("a mask has malformed RLE counts")
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, digits))
    numbers = np.add.reduceat((codes & 0x1F) << shift, first)
    numbers -= (codes[last] & 0x10 != 0) * (1 << 5 * digits)  # two's complement
    # Numbers of one mask and parity add up from its second or third on.
    owner = np.searchsorted(stops, last, side="right")
    begin = np.searchsorted(owner, np.arange(len(rles)))
    place = np.arange(len(numbers)) - begin[owner]
    chain = 3 * owner + np.where(place == 0, 0, 2 - place % 2)
    order = np.argsort(chain, kind="stable")
    counts = np.empty_like(numbers)
    counts[order] = _sums_within(numbers[order], chain[order])
    ends = _sums_within(counts, owner)
    if np.any(counts < 0) or np.any(
        ends[np.append(begin[1:], len(ends)) - 1] != pixels
    ):
        raise ValueError("the RLE counts of a mask do not fill its image")
    runs = (place % 2 == 1) & (counts > 0)
    return owner[runs], (ends - counts)[runs], ends[runs]


def overlap_areas(
    rles: Sequence[dict],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that masks of one image share, for all pairs that share any.

    Time and memory follow the runs that overlap, not the number of pairs of masks.

    Returns:
        ``first, second, area``, each (P,) int64, with ``first < second``.
    """
    owner, start, end = decode_runs(rles)
    keys, areas = [_NO_RUNS], [_NO_RUNS]
    for a, b in interval_pairs(start, end):
        low, high = np.sort([owner[a], owner[b]], axis=0)
        shared = np.minimum(end[a], end[b]) - np.maximum(start[a], start[b])
        key, place = np.unique(low * len(rles) + high, return_inverse=True)
        keys.append(key)
        areas.append(np.bincount(place, shared).astype(np.int64))
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    area = np.bincount(place, np.concatenate(areas), len(key)).astype(np.int64)
    return *np.divmod(key, max(len(rles), 1)), area


def interval_pairs(
    start: np.ndarray, end: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of intervals ``[start, end)`` that overlap, a part at a time.

    Args:
        start: (R,) of any number type.
        end: (R,) likewise, not before the start.

    Yields:
        Two index arrays of equal length; each pair comes once, in either order.
    """
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    # In this order the partners of an interval follow it without a gap.
    count = np.searchsorted(start, end, side="left") - np.arange(1, len(start) + 1)
    count = count.clip(min=0)  # an empty interval overlaps nothing
    total = np.cumsum(count)
    parts = np.flatnonzero(np.diff(total // _PAIRS_AT_ONCE, append=-1)) + 1
    for begin, stop in zip(np.append(0, parts), parts, strict=False):
        n = count[begin:stop]
        first = np.repeat(np.arange(begin, stop), n)
        nth = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
        yield order[first], order[first + 1 + nth]


def _sums_within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Cumulative sums that begin anew with each group of equal neighbours."""
    total = np.cumsum(values)
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    before = total[first] - values[first]
    return total - np.repeat(before, np.diff(np.append(first, len(values))))


def to_json(rle: dict) -> dict:
    """An RLE as JSON takes it: ``counts`` as str instead of bytes."""
    counts = rle["counts"]
    counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": counts}


def as_rles(masks) -> list[dict]:
    """Any kind of instance masks as N COCO RLE dicts (bytes).

    Args:
        masks: ``LabelMasks`` or ``RoIMasks``; a list of RLE dicts; or, from stock
            parts, ``BitmapMasks`` or an (N, H, W) array or tensor of bitmaps.
    """
    if isinstance(masks, list) and all(isinstance(mask, dict) for mask in masks):
        return masks
    if hasattr(masks, "to_rle"):
        return masks.to_rle()
    if hasattr(masks, "to_ndarray"):
        masks = masks.to_ndarray()
    elif hasattr(masks, "cpu"):
        masks = masks.cpu().numpy()
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
