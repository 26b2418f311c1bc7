import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import center_of_mass
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import (
    detection_counts,
    pq_counts,
    precision_recall_f1,
)
from custom.workbench.analysis.published import (
    centroid_counts,
    centroid_scores,
    count_errors,
    dsb_score,
    panoptic_scores,
)
from tests.cell_scenes import CLASSES, bitmaps, make_result, random_result
from tests.dense_masks import seeds


def by_class(match) -> list[tuple[list, list]]:
    """Bitmaps of cells and segments of each class."""
    gt, _ = bitmaps(match.result)
    segments = match.segments.to_ndarray() > 0
    return [
        (
            list(gt[match.result.gt_labels == k]),
            list(segments[match.segment_labels == k]),
        )
        for k in range(len(CLASSES))
    ]


def published_pq(cells: list, segments: list) -> float:
    """``get_fast_pq`` of PanNuke's utils.py: SQ has 1e-6 in its denominator."""
    ious = np.array([[(a & b).sum() / (a | b).sum() for b in segments] for a in cells])
    paired = ious[ious > 0.5]
    hits = len(paired)
    false, missed = len(segments) - hits, len(cells) - hits
    dq = hits / (hits + 0.5 * false + 0.5 * missed)
    return dq * paired.sum() / (hits + 1e-6)


def pannuke(matches) -> tuple[float, float]:
    """mPQ and bPQ of PanNuke's run.py, for one tissue: NaN without ground truth, per
    image ``nanmean`` over classes, then ``nanmean`` over images."""
    multi, binary = [], []
    for match in matches:
        rows = by_class(match)
        pq = [published_pq(*row) if row[0] else np.nan for row in rows]
        multi.append(np.nanmean(pq) if not np.isnan(pq).all() else np.nan)
        cells, segments = ([m for row in rows for m in row[i]] for i in (0, 1))
        binary.append(published_pq(cells, segments) if cells else np.nan)
    return tuple(
        np.nanmean(v) if not np.isnan(v).all() else np.nan for v in (multi, binary)
    )


def monusac(matches) -> tuple[float, float]:
    """a-PQ of PQ_metric.ipynb, which opens the class files of the ground truth only;
    and with the classes that only the predictions of an image have (Foucart 2022)."""
    published, corrected = [], []
    for k in range(len(CLASSES)):
        rows = [by_class(match)[k] for match in matches]
        published.append([published_pq(*row) for row in rows if row[0]])
        corrected.append(
            [published_pq(*row) if row[0] else 0.0 for row in rows if any(row)]
        )
    means = [[np.mean(v) for v in side if v] for side in (published, corrected)]
    return tuple(np.mean(v) if v else np.nan for v in means)


def stardist(match) -> float:
    """Mean of StarDist's ``accuracy`` over .5, .55, ..., .95, by optimal assignment."""
    gt, _ = bitmaps(match.result)
    segments = match.segments.to_ndarray() > 0
    if not len(gt) + len(segments):
        return np.nan
    ious = np.array([[(a & b).sum() / (a | b).sum() for b in segments] for a in gt])
    ious = ious.reshape(len(gt), len(segments))
    scores = []
    for threshold in np.arange(50, 100, 5) / 100:
        costs = -(ious >= threshold).astype(float) - ious / (2 * max(1, *ious.shape))
        pairs = linear_sum_assignment(costs)
        hits = np.count_nonzero(ious[pairs] >= threshold)
        scores.append(hits / (len(gt) + len(segments) - hits))
    return np.mean(scores)


def scores_of(matches) -> dict[str, float]:
    counts = [
        pq_counts(m.segment_table, m.result.gt_labels, m.segment_labels, len(CLASSES))
        for m in matches
    ]
    return panoptic_scores(matches, np.stack(counts))


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_scores_equal_the_published_code(seed):
    """With images that lack a class, all cells, or everything."""
    rng = np.random.default_rng(seed)
    results = [random_result(rng, name=f"i{i}") for i in range(4)]
    results.append(make_result(np.zeros((20, 20)), [], []))
    square = np.pad(np.ones((5, 5), bool), 5)
    results.append(make_result(0 * square, [], [(square, 1, 0.9)]))
    matches = [match_image(result, 0.3) for result in results]
    scores = scores_of(matches)
    expected = dict(
        zip(
            ("mPQ", "bPQ", "aPQ", "aPQ_fp"),
            (*pannuke(matches), *monusac(matches)),
            strict=True,
        )
    )
    expected["DSB"] = np.nanmean([stardist(match) for match in matches])
    for key, value in expected.items():
        np.testing.assert_allclose(
            scores[key], value, rtol=1e-5, atol=1e-6, err_msg=key
        )


def test_false_segments_of_absent_classes_count_as_each_benchmark_says():
    """One image has class a, found; the other has nothing but a false segment."""
    square = np.pad(np.ones((5, 5), bool), 5)
    one = make_result(1 * square, [0], [(square, 0, 0.9)])
    other = make_result(0 * square, [], [(square, 0, 0.9)])
    scores = scores_of([match_image(r, 0.5) for r in (one, other)])
    assert (scores["mPQ"], scores["bPQ"], scores["aPQ"]) == (1, 1, 1)
    assert (scores["aPQ_fp"], scores["DSB"]) == (0.5, 0.5)


def test_a_cell_in_two_exact_halves_is_one_true_positive():
    gt = np.ones((4, 8), int)
    left = np.arange(8) < np.full((4, 1), 4)
    match = match_image(make_result(gt, [0], [(left, 0, 0.9), (~left, 0, 0.8)]), 0.5)
    # TP 1, FP 1 at IoU .5, else nothing: (1 / 2 + 9 * 0) / 10.
    assert dsb_score(match.segment_table) == pytest.approx(0.05)


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
    matches = match_image(result, 0.4)
    np.testing.assert_array_equal(detection_counts(matches, len(CLASSES)), counts)


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


def dot(x: int) -> np.ndarray:
    mask = np.zeros((9, 99), bool)
    mask[3:6, x - 1 : x + 2] = True
    return mask


def test_centroids_pair_within_twelve_pixels():
    gt = dot(10) + 2 * dot(40) + 3 * dot(70)
    predictions = [(dot(22), 0, 0.9), (dot(53), 0, 0.9), (dot(71), 1, 0.9)]
    counts = centroid_counts(
        match_image(make_result(gt, [0, 1, 0], predictions), 0.5), 2
    )
    # 12 pixels pair, 13 do not, a pair may be of two classes.
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_centroid_pairs_are_the_best_of_all_assignments(seed):
    """A dense assignment in which a distance above 12 pixels costs 12."""
    result = random_result(np.random.default_rng(seed))
    match = match_image(result, 0.3)
    cells, segments = (
        np.reshape([center_of_mass(m) for m in masks], (-1, 2))
        for masks in (bitmaps(result)[0], match.segments.to_ndarray())
    )
    distance = cdist(cells, segments)
    pairs = linear_sum_assignment(np.minimum(distance, 12))
    best = distance[pairs]
    counts = centroid_counts(match, len(CLASSES))
    assert counts[:-1, :-1].sum() == np.count_nonzero(best <= 12)
    assert counts[:-1].sum() == len(cells)
    assert counts[:, :-1].sum() == len(segments)


def test_detection_and_classification_scores_by_hand():
    counts = np.array([[50, 10, 20], [5, 30, 15], [8, 4, 0]])
    f_d, accuracy, f_c = centroid_scores(counts)
    assert f_d == pytest.approx(2 * 95 / (2 * 95 + 12 + 35))
    assert accuracy == pytest.approx(80 / 95)
    # HoVer-Net's formula: TP 50, FN_c 10, FP_c 5, FP_d 8, FN_d 20.
    assert f_c[0] == pytest.approx(2 * 50 / (2 * 50 + 2 * 5 + 2 * 10 + 8 + 20))
    assert f_c[1] == pytest.approx(2 * 30 / (2 * 30 + 2 * 10 + 2 * 5 + 4 + 15))


def test_count_errors_by_hand():
    cells = np.array([[10, 3], [20, 3], [30, 3]])
    result = np.array([[12, 3], [17, 4], [30, 2]])
    errors = count_errors(cells, result)
    np.testing.assert_allclose(errors["count_mae"], [5 / 3, 2 / 3])
    np.testing.assert_allclose(errors["count_bias"], [-1 / 3, 0])
    np.testing.assert_allclose(errors["count_r2"], [1 - 13 / 200, math.nan])
