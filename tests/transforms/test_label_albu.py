"""LabelAlbu against the stock Albu, with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import Albu
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks
from custom.transforms import LabelAlbu
from tests.dense_masks import (
    assert_same,
    assert_same_results,
    label_masks,
    make_results,
    random_masks,
    seeds,
    to_bitmaps,
)

BOXES = {
    "type": "BboxParams",
    "format": "pascal_voc",
    "label_fields": ["gt_bboxes_labels", "gt_ignore_flags"],
    "min_visibility": 0.0,
    "filter_lost_elements": True,
}
FLIPS = [
    {"type": "HorizontalFlip", "p": 1.0},
    {"type": "VerticalFlip", "p": 1.0},
    {"type": "HorizontalFlip", "p": 0.5},
]
OTHERS = [
    {"type": "Affine", "rotate": (-90, 90), "scale": (0.5, 2), "p": 1.0},
    {"type": "ShiftScaleRotate", "p": 1.0},
    {"type": "ElasticTransform", "alpha": 20, "sigma": 3, "p": 1.0},
    {"type": "GridDistortion", "p": 1.0},
    {"type": "Perspective", "p": 1.0},
    {"type": "CoarseDropout", "fill_mask": 0, "p": 1.0},
    {"type": "RandomBrightnessContrast", "p": 1.0},
    {
        "type": "OneOf",
        "p": 1.0,
        "transforms": [{"type": "Blur", "p": 1.0}, {"type": "GaussNoise", "p": 1.0}],
    },
    {"type": "Transpose", "p": 1.0},
    {"type": "RandomRotate90", "p": 1.0},
    {"type": "D4", "p": 1.0},
    {"type": "RandomCrop", "height": 9, "width": 8, "pad_if_needed": True, "p": 1.0},
    {"type": "PadIfNeeded", "min_height": 40, "min_width": 50, "p": 1.0},
    {"type": "RandomScale", "scale_limit": 0.6, "p": 1.0},
    {"type": "Resize", "height": 23, "width": 31, "p": 1.0},
]


def run(kind, masks: LabelMasks, transforms: list, boxes, seed: int, **options):
    """The result of one kind of transform with one seed."""
    transform = kind(transforms, bbox_params=boxes, **options)
    np.random.seed(seed)
    if kind is Albu:  # LabelAlbu does this itself
        transform.aug.set_random_seed(np.random.randint(2**31))
    return transform.transform(make_results(masks, kind is Albu, seed))


@settings(max_examples=100, deadline=None)
@given(
    masks=label_masks(min_side=12, max_side=40),
    transforms=st.lists(st.sampled_from(FLIPS + OTHERS), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
    min_visibility=st.sampled_from([0.0, 0.5]),
)
def test_result_equals_stock_where_instances_can_be_lost(
    masks, transforms, seed, min_visibility
):
    masks = masks[masks.areas > 0]  # albumentations refuses boxes without extent
    boxes = {**BOXES, "min_visibility": min_visibility}
    found = run(LabelAlbu, masks, transforms, boxes, seed)
    assume(len(found["gt_masks"]))  # stock fails when nothing is left, see below
    expected = run(Albu, masks, transforms, boxes, seed)
    assert_same_results(found, expected)
    np.testing.assert_array_equal(found["idx_mapper"], expected["idx_mapper"])


@settings(max_examples=100, deadline=None)
@given(
    masks=label_masks(min_side=12, max_side=40),
    transforms=st.lists(st.sampled_from(FLIPS), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_result_equals_stock_where_nothing_is_filtered(masks, transforms, seed):
    masks = masks[masks.areas > 0]
    boxes = {"type": "BboxParams", "format": "pascal_voc"}
    found = run(LabelAlbu, masks, transforms, boxes, seed)
    assert_same_results(found, run(Albu, masks, transforms, boxes, seed))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_a_change_of_size_without_a_filter_keeps_masks_and_image_together(seed):
    masks = random_masks(np.random.default_rng(seed), (30, 40), 9, planes=2)
    masks = masks[masks.areas > 0]
    transforms = [{"type": "RandomCrop", "height": 20, "width": 25, "p": 1.0}]
    boxes = {"type": "BboxParams", "format": "pascal_voc"}
    results = run(LabelAlbu, masks, transforms, boxes, seed % 1000)
    found = results["gt_masks"]
    assert (found.height, found.width) == results["img_shape"] == (20, 25)
    # Where the image was cut, the masks were.
    whole = make_results(masks, False, seed % 1000)["img"]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (20, 25, 3))[:, :, 0]
    y, x = np.argwhere((windows == results["img"]).all(axis=(2, 3, 4)))[0]
    assert_same(found, to_bitmaps(masks).crop(np.array([x, y, x + 25, y + 20])))


def corner_masks() -> LabelMasks:
    plane = np.zeros((1, 40, 40), np.int32)
    plane[0, :3, :3] = 70_001
    return LabelMasks(plane, [0], [70_001])


@pytest.mark.parametrize("skip", [False, True])
def test_an_image_that_lost_everything_is_skipped_or_empty(skip):
    """Stock raises IndexError here."""
    transforms = [
        {"type": "Crop", "x_min": 20, "y_min": 20, "x_max": 40, "y_max": 40, "p": 1.0}
    ]
    results = run(
        LabelAlbu, corner_masks(), transforms, BOXES, 0, skip_img_without_anno=skip
    )
    if skip:
        assert results is None
        return
    assert len(results["gt_masks"]) == len(results["gt_bboxes"]) == 0
    assert results["gt_masks"].planes.shape == (1, 20, 20)
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_ignore_flags"].dtype == bool


def test_masks_alone_are_transformed():
    """Without boxes, as in a pipeline that computes them at its end."""
    results = make_results(corner_masks(), False)
    del results["gt_bboxes"]
    flip = LabelAlbu([{"type": "HorizontalFlip", "p": 1.0}])
    masks = flip.transform(results)["gt_masks"]
    assert masks.boxes().tolist() == [[37, 0, 40, 3]]


def test_input_is_not_written_to():
    masks = random_masks(np.random.default_rng(0), (30, 40), 9)
    before = masks.planes.copy()
    results = make_results(masks, False)
    del results["gt_bboxes"]
    LabelAlbu([{"type": "VerticalFlip", "p": 1.0}]).transform(results)
    np.testing.assert_array_equal(masks.planes, before)


def test_bitmaps_go_the_stock_way():
    masks = random_masks(np.random.default_rng(1), (30, 40), 9)
    masks = masks[masks.areas > 0]
    results = []
    for kind in (LabelAlbu, Albu):
        transform = kind([{"type": "VerticalFlip", "p": 1.0}], bbox_params=BOXES)
        results.append(transform.transform(make_results(masks, True)))
    np.testing.assert_array_equal(*[r["gt_masks"].masks for r in results])


@pytest.mark.parametrize(
    "transform",
    [
        {"type": "Rotate", "mask_interpolation": 1},
        {"type": "CoarseDropout", "fill_mask": 255},
        {"type": "PixelDropout", "mask_drop_value": 1},
        {"type": "Morphological"},
        {"type": "OneOf", "transforms": [{"type": "Pad", "fill_mask": 3}]},
    ],
)
def test_what_would_invent_ids_is_refused(transform):
    with pytest.raises(ValueError, match="label images"):
        TRANSFORMS.build({"type": "LabelAlbu", "transforms": [transform]})
