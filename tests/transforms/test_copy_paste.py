"""LabelCopyPaste against the stock CopyPaste, with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import CopyPaste

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
    source = make_results(second, stock, seed + 1)
    # The stock transform pastes regions to ignore.
    source["gt_ignore_flags"][:] = False
    results["mix_results"] = [source]
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
    result, expected = [], []
    for kind, stock, into in (
        (LabelCopyPaste, False, result),
        (CopyPaste, True, expected),
    ):
        results = pair(seed, size, counts, stock)
        np.random.seed(seed)
        into.append(kind(**options).transform(results))
        into.append(np.random.random())
    assert_same_results(result[0], expected[0])
    assert result[1] == expected[1]
    assert result[0]["img"].dtype == np.uint8


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


@settings(max_examples=100, deadline=None)
@given(seed=seeds, sizes=st.tuples(*[st.integers(1, 40)] * 4))
def test_between_sizes_instances_are_pasted_whole_at_one_shift(seed, sizes):
    rng, size = np.random.default_rng(seed), sizes[:2]
    above = random_masks(rng, sizes[2:], 6).renumber()
    above = above[above.areas > 0]
    results = make_results(LabelMasks(np.zeros((1, *size), np.int32), [], []), False)
    source = {
        **make_results(above, False),
        "gt_ignore_flags": np.zeros(len(above), bool),
    }
    # A pixel of the source tells where it is and whose.
    source["img"] = np.stack([*np.indices(sizes[2:]), above.planes[0]], -1)
    source["img"] = source["img"].astype(np.uint8)
    results["mix_results"] = [source]
    np.random.seed(seed)
    pasted = LabelCopyPaste(selected=False).transform(results)

    masks = pasted["gt_masks"]
    assert (masks.height, masks.width) == pasted["img"].shape[:2] == size
    np.testing.assert_array_equal(masks.boxes(), pasted["gt_bboxes"].tensor)
    area_of = dict(zip(above.ids.tolist(), above.areas.tolist(), strict=True))
    shifts = set()
    for mask in masks.to_ndarray().astype(bool):
        (number,) = set(pasted["img"][mask][:, 2].tolist())
        assert mask.sum() == area_of[number]
        shift = np.argwhere(mask) - pasted["img"][mask][:, :2]
        shifts |= set(map(tuple, shift.tolist()))
    assert len(shifts) <= 1
    if size[0] >= sizes[2] and size[1] >= sizes[3]:
        assert len(masks) == len(above)


def test_rare_classes_are_drawn_first():
    labels = np.array([0] * 8 + [3] * 2)
    transform = LabelCopyPaste(class_weights=(1, 1, 20, 20), max_num_pasted=4)
    np.random.seed(0)
    weights = transform.class_weights[labels]
    drawn = [transform._draw_instances(weights) for _ in range(1000)]
    # As many as the stock transform draws: 0 to 3.
    assert {len(result) for result in drawn} == {0, 1, 2, 3}
    firsts = [labels[result[0]] == 3 for result in drawn if len(result) == 1]
    assert np.mean(firsts) == pytest.approx(40 / 48, abs=0.08)


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [0, 2, 0, 1, 0]])
def test_a_class_of_weight_zero_is_never_pasted(labels):
    rng, transform = np.random.default_rng(0), LabelCopyPaste((0, 1, 1, 1))
    pasted = set()
    for seed in range(20):
        results = make_results(random_masks(rng, (20, 20), 0), False)
        source = make_results(random_masks(rng, (20, 20), len(labels)), False)
        source["gt_bboxes_labels"] = np.array(labels, np.int64)
        results["mix_results"] = [source]
        np.random.seed(seed)
        pasted |= set(transform.transform(results)["gt_bboxes_labels"])
    assert pasted == set(labels) - {0}


@pytest.mark.parametrize("weights", [None, (1, 9)])
def test_regions_to_ignore_are_never_pasted(weights):
    """Their label -1 must not read the weight of the last class."""
    rng, pasted = np.random.default_rng(0), 0
    for seed in range(20):
        results = make_results(random_masks(rng, (20, 20), 0), False)
        source = make_results(random_masks(rng, (20, 20), 4), False)
        source["gt_ignore_flags"] = np.array([False, False, False, True])
        source["gt_bboxes_labels"] = np.array([0, 0, 1, -1])
        results["mix_results"] = [source]
        np.random.seed(seed)
        result = LabelCopyPaste(weights).transform(results)
        assert not result["gt_ignore_flags"].any()
        assert -1 not in result["gt_bboxes_labels"]
        pasted += len(result["gt_masks"])
    assert pasted


def test_the_source_is_an_image_of_the_data_set():
    # The stock draw includes the number of images.
    transform = LabelCopyPaste()
    assert {transform.get_indexes(["a", "b"]) for _ in range(50)} == {0, 1}


def test_instances_of_one_class_that_overlap_stay_whole():
    """Two pasted instances that overlap each other keep their common pixels."""
    plane = np.zeros((2, 10, 10), np.int32)
    plane[0, 2:6, 2:6], plane[1, 4:8, 4:8] = 1, 1
    source = LabelMasks(plane, [0, 1], [1, 1])
    below = LabelMasks(np.full((1, 10, 10), 5, np.int32), [0], [5])
    results = make_results(below, False)
    results["mix_results"] = [make_results(source, False)]
    pasted = LabelCopyPaste(selected=False, mask_occluded_thr=1).transform(results)
    masks = pasted["gt_masks"]
    np.testing.assert_array_equal(to_bitmaps(masks[1:]).masks, source.to_ndarray())
    assert masks.areas.tolist() == [72, 16, 16]
