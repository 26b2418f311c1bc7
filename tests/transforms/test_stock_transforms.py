"""MMDetection's own transforms with LabelMasks, against the same with bitmaps."""

from __future__ import annotations

import copy
import random

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from mmdet.models import DetDataPreprocessor
from mmdet.registry import TRANSFORMS
from mmdet.utils import register_all_modules

from tests.dense_masks import (
    assert_same,
    assert_same_results,
    label_masks,
    make_results,
    random_masks,
    seeds,
)

register_all_modules()

FLIP = {"type": "RandomFlip", "prob": 1.0}
EXACT = [
    {"type": "Resize", "scale": (37, 29), "keep_ratio": True},
    {"type": "Resize", "scale": (37, 29), "keep_ratio": False},
    {"type": "Resize", "scale_factor": 0.7, "keep_ratio": True},
    {"type": "FixScaleResize", "scale": (37, 29), "keep_ratio": True},
    {"type": "FixShapeResize", "width": 40, "height": 50, "keep_ratio": True},
    {"type": "ResizeShortestEdge", "scale": 30, "max_size": 60},
    {"type": "RandomResize", "scale": (30, 40), "ratio_range": (0.5, 2.0)},
    {"type": "RandomChoiceResize", "scales": [(20, 30), (50, 40)]},
    {"type": "RandomScale", "factor_range": (0.5, 2.0)},
    {**FLIP, "direction": "horizontal"},
    {**FLIP, "direction": "vertical"},
    {**FLIP, "direction": "diagonal"},
    {
        "type": "RandomFlip",
        "prob": [0.25, 0.25, 0.25],
        "direction": ["horizontal", "vertical", "diagonal"],
    },
    {"type": "Pad", "size": (64, 64)},
    {"type": "Pad", "size_divisor": 32},
    {"type": "Pad", "pad_to_square": True},
    {"type": "Expand", "prob": 1.0},
    {"type": "MinIoURandomCrop"},
    {"type": "FilterAnnotations", "min_gt_bbox_wh": (5, 5)},
    {
        "type": "FilterAnnotations",
        "by_box": False,
        "by_mask": True,
        "min_gt_mask_area": 9,
    },
    {"type": "PhotoMetricDistortion"},
    {"type": "CutOut", "n_holes": 3, "cutout_shape": (4, 4)},
    *[
        {"type": "RandomCrop", "allow_negative_crop": negative, **options}
        for negative in (False, True)
        for options in (
            {"crop_size": (15, 20)},
            {"crop_size": (15, 20), "recompute_bbox": True},
            {"crop_size": (15, 20), "bbox_clip_border": False},
            {"crop_size": (0.3, 0.9), "crop_type": "relative"},
            {"crop_size": (0.3, 0.5), "crop_type": "relative_range"},
            {"crop_size": (5, 50), "crop_type": "absolute_range"},
            {"crop_size": (100, 100)},
        )
    ],
]
WARPS = [
    {"type": "Rotate"},
    {"type": "ShearX"},
    {"type": "ShearY"},
    {"type": "TranslateX"},
    {"type": "TranslateY"},
    {"type": "RandAugment", "aug_space": [[{"type": "Rotate"}], [{"type": "ShearY"}]]},
]
# RandomShift, Mosaic and MixUp leave masks of any type as they are.


def name(config: dict) -> str:
    options = [f"{k}={v}" for k, v in config.items() if k != "type"]
    return "-".join([config["type"], *options])[:70]


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def run(config: dict, results: dict, seed: int) -> dict | None:
    transform = TRANSFORMS.build(config)
    seed_all(seed)
    return transform(results)


@pytest.mark.parametrize("config", EXACT, ids=name)
@settings(max_examples=25, deadline=None)
@given(masks=label_masks(min_side=8, max_side=40), seed=seeds)
def test_result_equals_bitmaps(config, masks, seed):
    masks = masks[masks.areas > 0]
    result = run(config, make_results(masks, False, seed), seed)
    assert_same_results(result, run(config, make_results(masks, True, seed), seed))


def near_a_boundary(masks: np.ndarray) -> np.ndarray:
    """(N, H, W) bool, the pixels whose 3x3 neighbourhood is not of one kind."""
    kernel = np.ones((3, 3), np.uint8)
    return np.stack(
        [
            cv2.dilate(m, kernel)
            != cv2.erode(m, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            for m in masks
        ]
    )


@pytest.mark.parametrize("config", WARPS, ids=name)
@settings(max_examples=25, deadline=None)
@given(masks=label_masks(min_side=8, max_side=40, min_count=1), seed=seeds)
def test_warps_equal_bitmaps_but_for_pixels_on_a_boundary(config, masks, seed):
    result = run(config, make_results(masks, False, seed), seed)
    expected = run(config, make_results(masks, True, seed), seed)
    ours, stock = result["gt_masks"].to_ndarray(), expected["gt_masks"].masks
    edge = near_a_boundary(ours) | near_a_boundary(stock)
    assert np.all(edge[ours != stock])
    expected["gt_masks"].masks = ours
    assert_same_results(result, expected)


@pytest.mark.parametrize("kind", ["CachedMosaic", "CachedMixUp"])
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_mixing_of_images_equals_bitmaps(kind, seed):
    options = {
        "CachedMosaic": {"img_scale": (32, 32), "max_cached_images": 6},
        # Not larger than the image: see the next test.
        "CachedMixUp": {
            "img_scale": (24, 24),
            "ratio_range": (0.5, 1.0),
            "prob": 1.0,
            "max_cached_images": 4,
        },
    }[kind]
    mixers = [TRANSFORMS.build({"type": kind, **options}) for _ in range(2)]
    for step in range(8):
        rng = np.random.default_rng([seed, step])
        masks = random_masks(rng, tuple(rng.integers(24, 40, 2)), 6, planes=2)
        masks = masks[masks.areas > 0]
        result, expected = [], []
        for mixer, stock, into in (
            (mixers[0], False, result),
            (mixers[1], True, expected),
        ):
            seed_all((seed + step) % 2**32)
            into.append(mixer(make_results(masks, stock, step)))
        assert_same_results(result[0], expected[0])


@settings(max_examples=25, deadline=None)
@given(masks=label_masks(min_side=8, max_side=40), seed=seeds)
def test_packing_and_padding_of_a_batch_equal_bitmaps(masks, seed):
    pack = TRANSFORMS.build({"type": "PackDetInputs", "meta_keys": ("img_shape",)})
    preprocess = DetDataPreprocessor(
        mean=[0, 0, 0], std=[1, 1, 1], pad_mask=True, pad_size_divisor=32
    )
    batches = []
    for stock in (False, True):
        packed = pack(make_results(masks, stock, seed))
        data = {
            "inputs": [packed["inputs"]],
            "data_samples": [copy.deepcopy(packed["data_samples"])],
        }
        batches.append(preprocess(data, training=True)["data_samples"][0])
    ours, stock = batches
    for part in ("gt_instances", "ignored_instances"):
        assert_same(ours.get(part).masks, stock.get(part).masks)
        assert torch.equal(ours.get(part).labels, stock.get(part).labels)
    assert ours.gt_instances.masks.height % 32 == 0
