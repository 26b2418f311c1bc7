"""BoxMasks hold any mask to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from custom.structures import BoxMasks
from custom.structures.rle import as_rles

many = settings(deadline=None, max_examples=60)


def box_masks(bitmaps, size) -> BoxMasks:
    """Each mask from a patch that is larger than it needs to be."""
    return BoxMasks.from_patches([(0, 0, mask) for mask in bitmaps], size)


def random_masks(seed, count, size, density=0.3):
    return np.random.default_rng(seed).random((count, *size)) < density


@many
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 6),
    size=st.tuples(*[st.integers(1, 30)] * 2),
    density=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_rles_areas_and_patches_are_those_of_the_bitmaps(seed, count, size, density):
    bitmaps = random_masks(seed, count, size, density)
    masks = box_masks(bitmaps, size)
    assert len(masks) == count
    np.testing.assert_array_equal(masks.to_ndarray(), bitmaps)
    expected = [coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in bitmaps]
    assert as_rles(masks) == expected
    assert masks.areas.tolist() == bitmaps.sum(axis=(1, 2)).tolist()
    for (_, _, patch), bitmap in zip(masks.patches(), bitmaps, strict=True):
        # The box is tight.
        assert not patch.size or all(
            edge.any() for edge in (patch[0], patch[-1], patch[:, 0], patch[:, -1])
        )
        assert patch.sum() == bitmap.sum()


@many
@given(
    seed=st.integers(0, 2**32 - 1),
    corner=st.tuples(*[st.integers(-12, 25)] * 2),
    clip=st.tuples(*[st.integers(0, 20)] * 4),
)
def test_pixels_outside_the_image_or_the_clip_are_dropped(seed, corner, clip):
    (patch,) = random_masks(seed, 1, (9, 11), 0.5)
    full = np.zeros((60, 60), bool)
    y, x = corner[0] + 15, corner[1] + 15
    full[y : y + 9, x : x + 11] = patch
    y1, x1 = min(clip[0], clip[2]), min(clip[1], clip[3])
    y2, x2 = max(clip[0], clip[2]), max(clip[1], clip[3])
    for limit in (None, (y1, x1, y2, x2)):
        masks = BoxMasks.from_patches([(*corner, patch)], (20, 20), limit)
        expected = full[15:35, 15:35].copy()
        if limit is not None:
            outside = np.ones_like(expected)
            outside[y1:y2, x1:x2] = False
            expected[outside] = False
        np.testing.assert_array_equal(masks.to_ndarray()[0], expected)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (2, [2]),
        (slice(1, 3), [1, 2]),
        ([0, 2], [0, 2]),
        ([], []),
        (np.array([3, 0]), [3, 0]),
        (torch.tensor([False, True, False, True]), [1, 3]),
    ],
)
def test_index_selects_as_it_does_on_bitmaps(index, expected):
    bitmaps = random_masks(0, 4, (8, 9))
    chosen = box_masks(bitmaps, (8, 9))[index].to_ndarray()
    np.testing.assert_array_equal(chosen, bitmaps[np.array(expected, int)])


def test_instance_data_selects_concatenates_and_moves_them():
    bitmaps = random_masks(1, 5, (8, 9))
    masks = box_masks(bitmaps, (8, 9))
    data = InstanceData(scores=torch.arange(5.0), masks=masks).to("cpu")
    chosen = data[data.scores > 1.5]
    np.testing.assert_array_equal(chosen.masks.to_ndarray(), bitmaps[2:])
    assert chosen.masks.bits is masks.bits
    both = InstanceData.cat([chosen, data[:1]])
    np.testing.assert_array_equal(both.masks.to_ndarray(), bitmaps[[2, 3, 4, 0]])
    assert len(data[data.scores > 9].masks) == 0
    parts = [box_masks(part, (8, 9)) for part in (bitmaps[:2], bitmaps[2:2], bitmaps)]
    joined = BoxMasks.cat(parts).to_ndarray()
    np.testing.assert_array_equal(joined, bitmaps[[0, 1, 0, 1, 2, 3, 4]])
