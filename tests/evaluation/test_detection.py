import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import center_of_mass

from custom.evaluation.detection import (
    _centroids,
    centroid_counts,
    centroid_figures,
    count_errors,
    detection_counts,
    precision_recall_f1,
)
from custom.evaluation.matching import match_image
from tests.cell_scenes import CLASSES, bitmaps, make_result, random_result
from tests.dense_masks import seeds


@given(seeds)
@settings(deadline=None, max_examples=50)
def test_counts_equal_a_walk_through_the_predictions(seed):
    result = random_result(np.random.default_rng(seed))
    gt, masks = bitmaps(result)
    counts = np.zeros((len(CLASSES), 3))
    taken = set()
    for i in np.argsort(-result.scores, kind="stable"):
        if result.scores[i] < 0.4:
            continue
        ious = {
            g: (m & masks[i]).sum() / (m | masks[i]).sum()
            for g, m in enumerate(gt)
            if g not in taken and result.gt_labels[g] == result.labels[i]
        }
        best = max(ious, key=lambda g: (ious[g], g), default=None)
        hit = best is not None and ious[best] >= 0.5
        if hit:
            taken.add(best)
        counts[result.labels[i], 0 if hit else 1] += 1
    for g, label in enumerate(result.gt_labels):
        counts[label, 2] += g not in taken
    found = match_image(result, 0.4)
    np.testing.assert_array_equal(detection_counts(found, len(CLASSES)), counts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((6, 2, 4), (0.75, 0.6, 2 / 3)),
        ((0, 0, 3), (math.nan, 0, 0)),
        ((0, 3, 0), (0, math.nan, 0)),
        ((0, 0, 0), (math.nan, math.nan, math.nan)),
    ],
)
def test_precision_recall_and_f1(counts, expected):
    np.testing.assert_allclose(precision_recall_f1(np.array(counts)), expected)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_centroids_equal_scipy(seed):
    result = random_result(np.random.default_rng(seed))
    expected = [center_of_mass(m) for m in bitmaps(result)[0]]
    np.testing.assert_allclose(_centroids(result.gt), np.reshape(expected, (-1, 2)))


def dot(x: int) -> np.ndarray:
    mask = np.zeros((9, 99), bool)
    mask[3:6, x - 1 : x + 2] = True
    return mask


def test_centroids_pair_within_twelve_pixels():
    gt = dot(10) + 2 * dot(40) + 3 * dot(70)
    found = [(dot(22), 0, 0.9), (dot(53), 0, 0.9), (dot(71), 1, 0.9)]
    counts = centroid_counts(match_image(make_result(gt, [0, 1, 0], found), 0.5), 2)
    # 12 pixels pair, 13 do not, a pair may be of two classes.
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_detection_and_classification_figures_by_hand():
    counts = np.array([[50, 10, 20], [5, 30, 15], [8, 4, 0]])
    f_d, accuracy, f_c = centroid_figures(counts)
    assert f_d == pytest.approx(2 * 95 / (2 * 95 + 12 + 35))
    assert accuracy == pytest.approx(80 / 95)
    # HoVer-Net's formula: TP 50, FN_c 10, FP_c 5, FP_d 8, FN_d 20.
    assert f_c[0] == pytest.approx(2 * 50 / (2 * 50 + 2 * 5 + 2 * 10 + 8 + 20))
    assert f_c[1] == pytest.approx(2 * 30 / (2 * 30 + 2 * 10 + 2 * 5 + 4 + 15))


def test_empty_images_have_no_detection_figures():
    empty = match_image(make_result(np.zeros((5, 5)), [], []), 0.5)
    f_d, accuracy, f_c = centroid_figures(centroid_counts(empty, 2))
    assert math.isnan(f_d)
    assert math.isnan(accuracy)
    assert np.isnan(f_c).all()


def test_count_errors_by_hand():
    cells = np.array([[10, 3], [20, 3], [30, 3]])
    found = np.array([[12, 3], [17, 4], [30, 2]])
    errors = count_errors(cells, found)
    np.testing.assert_allclose(errors["count_mae"], [5 / 3, 2 / 3])
    np.testing.assert_allclose(errors["count_bias"], [-1 / 3, 0])
    np.testing.assert_allclose(errors["count_r2"], [1 - 13 / 200, math.nan])
