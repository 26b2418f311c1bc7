"""RLE without full frames against pycocotools, byte by byte."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask

from custom.structures import LabelMasks
from custom.structures.rle import (
    as_rles,
    decode_runs,
    encode_runs,
    label_runs,
    patch_runs,
    run_pixels,
    to_json,
)
from tests.dense_masks import label_masks, seeds

many = settings(max_examples=100, deadline=None)
densities = st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0])


def encode(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def encode_label_image(plane: np.ndarray, ids) -> list[dict]:
    return encode_runs(*label_runs(plane, ids), len(ids), plane.shape)


@many
@given(label_masks())
def test_label_image_gives_the_bytes_of_pycocotools(masks):
    for plane in masks.planes:
        ids = np.unique(np.append(plane, [3, 70_000]))
        ids = ids[ids > 0][::-1]
        assert encode_label_image(plane, ids) == [encode(plane == i) for i in ids]


def test_label_image_in_any_memory_layout():
    plane = np.arange(35, dtype=np.int32).reshape(5, 7) // 4
    for view in (plane, plane.T, plane[::-1, ::-1], plane[1:4, 2:], plane[:, ::2]):
        assert encode_label_image(view, [1, 2, 8]) == [
            encode(view == i) for i in (1, 2, 8)
        ]


@many
@given(
    seed=seeds,
    size=st.tuples(*[st.integers(1, 12)] * 2),
    count=st.integers(0, 5),
    density=densities,
)
def test_runs_of_patches_give_the_bytes_of_the_full_masks(seed, size, count, density):
    """Runs that touch across a column, a patch at each border, empty masks."""
    rng = np.random.default_rng(seed)
    h, w = (int(rng.integers(1, side + 1)) for side in size)
    patches = rng.random((count, h, w)) < density
    corners = np.stack(
        [rng.integers(0, size[i] - side + 1, count) for i, side in enumerate((h, w))],
        axis=1,
    )
    full = np.zeros((count, *size), bool)
    for mask, patch, (y, x) in zip(full, patches, corners, strict=True):
        mask[y : y + h, x : x + w] = patch
    runs = patch_runs(patches, corners, size[0])
    assert encode_runs(*runs, count, size) == [encode(mask) for mask in full]
    # The order of the owners does not matter, that of an owner's runs does.
    order = np.argsort(-runs[0], kind="stable")
    shuffled = [part[order] for part in runs]
    assert encode_runs(*shuffled, count, size) == [encode(mask) for mask in full]


@many
@given(seed=seeds, size=st.tuples(*[st.integers(1, 30)] * 2), density=densities)
def test_json_form_survives_json_and_decodes_to_the_mask(seed, size, density):
    mask = np.random.default_rng(seed).random(size) < density
    rle = json.loads(json.dumps(to_json(encode(mask))))
    assert isinstance(rle["counts"], str)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)
    assert to_json(rle) == rle


@pytest.mark.parametrize("kind", ["label", "bitmap", "array", "tensor", "bool"])
def test_every_kind_of_masks_becomes_the_same_rles(kind):
    bitmaps = np.random.default_rng(0).random((3, 6, 9)) < 0.4
    expected = [encode(mask) for mask in bitmaps]
    masks = {
        "label": lambda: LabelMasks.from_rles(expected, (6, 9)),
        "bitmap": lambda: BitmapMasks(bitmaps.astype(np.uint8), 6, 9),
        "array": lambda: bitmaps.astype(np.uint8),
        "tensor": lambda: torch.from_numpy(bitmaps),
        "bool": lambda: bitmaps,
    }[kind]()
    assert as_rles(masks) == expected
    assert as_rles(masks[:0]) == []


@many
@given(
    seed=seeds,
    sizes=st.lists(st.tuples(*[st.integers(1, 40)] * 2), max_size=5),
    density=densities,
)
def test_decoded_runs_are_the_pixels_of_the_masks(seed, sizes, density):
    rng = np.random.default_rng(seed)
    masks = [rng.random(size) < density for size in sizes]
    owner, start, end = decode_runs([encode(mask) for mask in masks])
    for i, mask in enumerate(masks):
        flat = np.zeros(mask.size, int)
        np.add.at(flat, run_pixels(start[owner == i], end[owner == i]), 1)
        np.testing.assert_array_equal(flat, mask.T.ravel())
        runs = decode_runs([encode(mask)])
        assert encode_runs(*runs, 1, mask.shape) == [encode(mask)]


def test_runs_of_large_images_need_several_digits():
    mask = np.zeros((3000, 2000), bool)
    mask[2990:, 1500:] = True
    mask[5, 0] = True
    (rle,) = [encode(mask)]
    assert encode_runs(*decode_runs([rle]), 1, mask.shape) == [rle]
    # A whole slide: run lengths above 2^32, which pycocotools does not take.
    size = 70_000, 80_000
    runs = [
        np.array([0]),
        np.array([size[0] * 79_999]),
        np.array([size[0] * 79_999 + 9]),
    ]
    back = decode_runs(encode_runs(*runs, 1, size))
    np.testing.assert_array_equal(np.stack(back), np.stack(runs))


@pytest.mark.parametrize("counts", [b"", b"0", b"o", b"\x00", b"zz", b"P" * 20, b"9L"])
def test_broken_counts_are_refused(counts):
    whole = encode(np.eye(5, dtype=bool))
    for rles in ([{"size": [5, 5], "counts": counts}],):
        with pytest.raises(ValueError, match="RLE counts"):
            decode_runs([whole, *rles])
        with pytest.raises(ValueError, match="RLE counts"):
            decode_runs([*rles, whole])
