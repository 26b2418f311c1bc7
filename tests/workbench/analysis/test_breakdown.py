import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from custom.structures import LabelMasks
from custom.workbench.analysis.breakdown import calibrate, neighbours, recall_in_bins
from tests.cell_scenes import random_result
from tests.dense_masks import label_masks, seeds


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
@settings(deadline=None, max_examples=80)
def test_calibration_equals_a_loop_over_bins(rows):
    scores = np.array([s for s, _ in rows])
    true = np.array([t for _, t in rows], bool)
    counts, score, share, error = calibrate(scores, true, 5)
    expected = 0.0
    for b in range(5):
        own = [r for r in rows if int(r[0] * 5) == b or (b == 4 and r[0] == 1)]
        assert counts[b] == len(own)
        if not own:
            assert math.isnan(score[b])
            assert math.isnan(share[b])
            continue
        mean_score = sum(s for s, _ in own) / len(own)
        mean_true = sum(t for _, t in own) / len(own)
        assert score[b] == pytest.approx(mean_score)
        assert share[b] == pytest.approx(mean_true)
        expected += len(own) / len(rows) * abs(mean_true - mean_score)
    if rows:
        assert error == pytest.approx(expected)
    else:
        assert math.isnan(error)


def test_overconfident_scores_have_the_expected_error():
    scores, true = np.full(10, 0.95), np.arange(10) < 7
    assert calibrate(scores, true)[3] == pytest.approx(0.25)


def test_recall_of_bins_with_a_value_on_an_edge():
    values = np.array([0, 7.9, 8, 15, 100])
    true = np.array([True, False, True, True, False])
    counts, recall = recall_in_bins(values, true, (0, 8, 16, 32))
    assert counts.tolist() == [2, 2, 0, 1]
    np.testing.assert_array_equal(recall, [0.5, 1, math.nan, 0])


def naive_neighbours(masks: LabelMasks) -> np.ndarray:
    bitmaps = masks.to_ndarray() > 0
    counts = np.zeros(len(masks), int)
    for i, own in enumerate(bitmaps):
        distance = distance_transform_edt(~own)
        counts[i] = sum(
            distance[other].min(initial=99) <= 3
            for j, other in enumerate(bitmaps)
            if j != i and own.any()
        )
    return counts


@given(label_masks())
@settings(deadline=None, max_examples=60)
def test_neighbours_equal_distances_of_bitmaps(masks):
    """Also of instances that overlap, and of label images with ids that are unused."""
    np.testing.assert_array_equal(neighbours(masks), naive_neighbours(masks))


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_neighbours_of_touching_cells(seed):
    masks = random_result(np.random.default_rng(seed)).gt
    np.testing.assert_array_equal(neighbours(masks), naive_neighbours(masks))


def test_a_cell_on_top_of_another_is_its_neighbour():
    planes = np.zeros((2, 30, 30), np.int32)
    planes[0, 5:25, 5:25], planes[1, 14:16, 14:16] = 1, 1
    masks = LabelMasks(planes, np.array([0, 1]), np.array([1, 1]))
    assert neighbours(masks).tolist() == [1, 1]
