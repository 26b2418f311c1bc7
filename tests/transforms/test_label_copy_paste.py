"""LabelCopyPaste against the stock CopyPaste, with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks
from custom.transforms import LabelCopyPaste
from tests.dense_masks import (
    assert_same_results,
    make_results,
    random_masks,
    seeds,
    to_bitmaps,
)


def pair(seed: int, size: tuple[int, int], counts: tuple[int, int], stock: bool):
    """The results of an image with those of the image to paste from."""
    rng = np.random.default_rng(seed)
    first, second = (random_masks(rng, size, n, planes=2) for n in counts)
    results = make_results(first, stock, seed)
    results["mix_results"] = [make_results(second, stock, seed + 1)]
    return results


@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    size=st.tuples(*[st.integers(1, 40)] * 2),
    counts=st.tuples(*[st.integers(0, 12)] * 2),
    options=st.fixed_dictionaries(
        {},
        optional={
            "max_num_pasted": st.integers(1, 12),
            "bbox_occluded_thr": st.integers(0, 10),
            "mask_occluded_thr": st.integers(0, 300),
            "selected": st.booleans(),
        },
    ),
)
def test_result_equals_stock(seed, size, counts, options):
    found, expected = [], []
    for kind, stock, into in (
        (LabelCopyPaste, False, found),
        (CopyPaste, True, expected),
    ):
        results = pair(seed, size, counts, stock)
        np.random.seed(seed)
        into.append(kind(**options).transform(results))
        into.append(np.random.random())
    assert_same_results(found[0], expected[0])
    assert found[1] == expected[1]
    assert found[0]["img"].dtype == np.uint8


def test_source_and_destination_are_not_written_to():
    results = pair(1, (30, 40), (8, 8), stock=False)
    masks = results["gt_masks"], results["mix_results"][0]["gt_masks"]
    before = [m.planes.copy() for m in masks]
    LabelCopyPaste(selected=False).transform(results)
    for item, planes in zip(masks, before, strict=True):
        np.testing.assert_array_equal(item.planes, planes)


def test_pasting_again_and_again_adds_no_planes_and_keeps_ids_small():
    transform, results = LabelCopyPaste(selected=False), None
    for step in range(5):
        new = make_results(
            random_masks(np.random.default_rng(step), (40, 50), 10, planes=2), False
        )
        if results is not None:
            new["mix_results"] = [results]
            new = transform.transform(new)
        results = new
    masks = results["gt_masks"]
    assert len(masks.planes) == 2
    assert masks.planes.max() <= len(masks)


def test_images_of_different_sizes_are_refused():
    rng = np.random.default_rng(0)
    results = make_results(random_masks(rng, (20, 20), 3), False)
    other = make_results(random_masks(rng, (20, 21), 3), False)
    results["mix_results"] = [other]
    with pytest.raises(ValueError, match="one size"):
        LabelCopyPaste(selected=False).transform(results)


def test_bitmaps_and_boxes_go_the_stock_way():
    transform = TRANSFORMS.build({"type": "LabelCopyPaste", "selected": False})
    found = transform.transform(pair(2, (30, 40), (5, 5), stock=True))
    expected = CopyPaste(selected=False).transform(pair(2, (30, 40), (5, 5), True))
    np.testing.assert_array_equal(found["gt_masks"].masks, expected["gt_masks"].masks)

    by_box = {"paste_by_box": True, "max_num_pasted": 3}
    results = [pair(3, (30, 40), (5, 5), stock=True) for _ in range(2)]
    for item, kind in zip(results, (LabelCopyPaste, CopyPaste), strict=True):
        del item["gt_masks"], item["mix_results"][0]["gt_masks"]
        np.random.seed(0)
        kind(**by_box).transform(item)
    np.testing.assert_array_equal(results[0]["img"], results[1]["img"])
    assert "gt_masks" not in results[0]


def test_instances_of_one_class_that_overlap_stay_whole():
    """Two pasted instances that overlap each other keep their common pixels."""
    plane = np.zeros((2, 10, 10), np.int32)
    plane[0, 2:6, 2:6], plane[1, 4:8, 4:8] = 1, 1
    source = LabelMasks(plane, [0, 1], [1, 1])
    below = LabelMasks(np.full((1, 10, 10), 5, np.int32), [0], [5])
    results = make_results(below, False)
    results["mix_results"] = [make_results(source, False)]
    masks = LabelCopyPaste(selected=False, mask_occluded_thr=1).transform(results)[
        "gt_masks"
    ]
    np.testing.assert_array_equal(to_bitmaps(masks[1:]).masks, source.to_ndarray())
    assert masks.areas.tolist() == [72, 16, 16]
