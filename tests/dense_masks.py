"""Pairs of LabelMasks and BitmapMasks of the same pixels, for differential tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from mmdet.structures.mask import BitmapMasks

from custom.structures import LabelMasks

# Gaps, and numbers that do not fit in 8, 16 and 24 bits or in the table of ids.
IDS = (1, 2, 3, 7, 255, 256, 257, 65_535, 65_536, 70_001, (1 << 22) + 5, (1 << 31) - 1)

seeds = st.integers(0, 2**32 - 1)


def to_bitmaps(masks: LabelMasks) -> BitmapMasks:
    """The same masks as the stock class holds them."""
    size = masks.height, masks.width
    return BitmapMasks(masks.to_ndarray(), *size)


def random_plane(
    rng: np.random.Generator, size: tuple[int, int], ids: np.ndarray
) -> np.ndarray:
    """(H, W) int32 with one shape per id: boxes, discs, pixels, noise, frames."""
    height, width = size
    yy, xx = np.mgrid[:height, :width]
    plane = np.zeros(size, np.int32)
    for label in ids:
        y, x = rng.integers(0, height), rng.integers(0, width)
        a, b = rng.integers(1, max(2, height)), rng.integers(1, max(2, width))
        kind = rng.integers(5)
        if kind == 0:
            plane[y : y + a, x : x + b] = label
        elif kind == 1:
            plane[((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 < 0.5] = label
        elif kind == 2:
            plane[y, x] = label
        elif kind == 3:
            plane[rng.random(size) < 0.1] = label
        else:
            plane[[0, -1]] = label
    return plane


def random_masks(
    rng: np.random.Generator,
    size: tuple[int, int],
    count: int,
    planes: int = 1,
    pool: tuple[int, ...] = IDS,
) -> LabelMasks:
    """``count`` instances of some planes; ids that no instance has are there too."""
    stack, candidates = [], []
    for index in range(planes):
        ids = rng.permutation(pool)[: rng.integers(0, len(pool) + 1)]
        stack.append(random_plane(rng, size, ids))
        # Some are not in the image: an instance may have lost all its pixels.
        candidates += [(index, label) for label in pool]
    chosen = rng.permutation(candidates)[:count].reshape(-1, 2)
    return LabelMasks(np.stack(stack), chosen[:, 0], chosen[:, 1])


@st.composite
def label_masks(
    draw,
    max_side: int = 24,
    min_count: int = 0,
    max_count: int = 12,
    min_side: int = 1,
) -> LabelMasks:
    """Any label masks: sizes from 1, no, one or many instances, overlapping or not."""
    size = draw(st.tuples(*[st.integers(min_side, max_side)] * 2))
    count = draw(st.integers(min_count, max_count))
    planes = draw(st.integers(1, 3))
    return random_masks(np.random.default_rng(draw(seeds)), size, count, planes)


def make_results(masks: LabelMasks, stock: bool, seed: int = 0) -> dict:
    """What a pipeline holds after loading, with either kind of masks."""
    rng = np.random.default_rng(seed)
    size = masks.height, masks.width
    return {
        "img": rng.integers(0, 256, (*size, 3), np.uint8),
        "img_shape": size,
        "ori_shape": size,
        "img_id": 7,
        "gt_bboxes": masks.get_bboxes("hbox"),
        "gt_bboxes_labels": rng.integers(0, 4, len(masks)),
        "gt_ignore_flags": rng.random(len(masks)) < 0.2,
        "gt_masks": to_bitmaps(masks) if stock else masks,
    }


def assert_same_results(ours: dict | None, stock: dict | None) -> None:
    """Equal image, boxes, labels, flags and masks."""
    assert (ours is None) == (stock is None)
    if ours is None:
        return
    np.testing.assert_array_equal(ours["img"], stock["img"])
    assert ours["img_shape"] == stock["img_shape"]
    np.testing.assert_array_equal(ours["gt_bboxes"].tensor, stock["gt_bboxes"].tensor)
    for key in ("gt_bboxes_labels", "gt_ignore_flags"):
        np.testing.assert_array_equal(ours[key], stock[key])
        assert ours[key].dtype == stock[key].dtype
    assert_same(ours["gt_masks"], stock["gt_masks"])


def assert_same(ours: LabelMasks, stock: BitmapMasks) -> None:
    """Equal in number, size and every pixel."""
    assert isinstance(ours, LabelMasks)
    assert (len(ours), ours.height, ours.width) == (
        len(stock),
        stock.height,
        stock.width,
    )
    assert ours.planes.shape[1:] == (ours.height, ours.width)
    np.testing.assert_array_equal(ours.to_ndarray(), stock.masks)
