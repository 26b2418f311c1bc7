import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import detection_counts
from custom.workbench.analysis.outcomes import (
    CELL_OUTCOMES,
    PREDICTION_OUTCOMES,
    confusion,
    find_outcomes,
)
from tests.cell_scenes import CLASSES, bitmaps, make_result, random_result
from tests.dense_masks import seeds


def bar(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((10, 60), bool)
    mask[:, start:stop] = True
    return mask


def outcomes(gt, gt_labels, predictions, ignored=None):
    found = find_outcomes(
        match_image(make_result(gt, gt_labels, predictions, ignored), 0.5)
    )
    return found.cells.tolist(), found.predictions.tolist()


ONE, TWO = 1 * bar(0, 20), bar(0, 20) + 2 * bar(20, 40)


@pytest.mark.parametrize(
    ("gt", "labels", "predictions", "cells", "found"),
    [
        (ONE, [0], [(bar(0, 20), 0, 0.9)], ["true"], ["true"]),
        (ONE, [0], [(bar(0, 10), 0, 0.9)], ["true"], ["true"]),  # IoU 0.5
        (ONE, [0], [(bar(0, 20), 1, 0.9)], ["wrong class"], ["wrong class"]),
        (ONE, [0], [(bar(0, 9), 0, 0.9)], ["bad mask"], ["bad mask"]),
        (ONE, [0], [(bar(0, 9), 1, 0.9)], ["bad mask"], ["bad mask"]),
        (ONE, [0], [(bar(0, 1), 0, 0.9)], ["missed"], ["false"]),  # IoU 0.05
        (ONE, [0], [(bar(30, 50), 0, 0.9)], ["missed"], ["false"]),
        (ONE, [0], [(bar(0, 20), 0, 0.4)], ["missed"], ["low score"]),
        (ONE, [0], [], ["missed"], []),
        (0 * ONE, [], [(bar(0, 20), 0, 0.9)], [], ["false"]),
        (
            ONE,
            [0],
            [(bar(0, 20), 0, 0.8), (bar(0, 18), 0, 0.9), (bar(1, 20), 1, 0.95)],
            ["true"],
            ["duplicate", "true", "duplicate"],
        ),
        (
            ONE,
            [0],
            [(bar(0, 9), 0, 0.9), (bar(9, 18), 0, 0.8)],
            ["split"],
            ["split", "split"],
        ),
        # The parts cover less than half of the cell.
        (
            ONE,
            [0],
            [(bar(0, 4), 0, 0.9), (bar(4, 8), 0, 0.8)],
            ["bad mask"],
            ["bad mask", "bad mask"],
        ),
        # One part, and nearly the same again: hidden by the first, so no split.
        (
            ONE,
            [0],
            [(bar(0, 9), 0, 0.9), (bar(0, 8), 0, 0.8)],
            ["bad mask"],
            ["bad mask", "bad mask"],
        ),
        # Right for one cell, it has swallowed 70 % of the other.
        (TWO, [0, 0], [(bar(0, 34), 0, 0.9)], ["true", "merged"], ["true"]),
        (
            bar(0, 20) + 2 * bar(20, 40) + 3 * bar(40, 60),
            [0, 1, 0],
            [(bar(0, 60), 0, 0.9)],
            ["merged"] * 3,
            ["merged"],
        ),
        # A neighbour that covers 45 % of the second cell is right for the first.
        (TWO, [0, 0], [(bar(0, 29), 0, 0.9)], ["true", "missed"], ["true"]),
    ],
)
def test_hand_made_outcomes(gt, labels, predictions, cells, found):
    assert outcomes(gt, labels, predictions) == (cells, found)


def test_the_true_class_goes_first_and_the_other_is_a_duplicate():
    found = [(bar(0, 20), 1, 0.99), (bar(0, 20), 0, 0.6)]
    assert outcomes(ONE, [0], found) == (["true"], ["duplicate", "true"])


def test_ignored_predictions_have_no_other_outcome():
    found = [(bar(30, 50), 0, 0.9), (bar(30, 50), 0, 0.1)]
    region = bar(35, 60)
    assert outcomes(ONE, [0], found, region) == (["missed"], ["ignored", "low score"])


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=100)
def test_every_cell_and_prediction_has_one_outcome_that_fits(seed, ignored):
    result = random_result(np.random.default_rng(seed), ignored)
    found = match_image(result, 0.3)
    out = find_outcomes(found)
    gt, masks = bitmaps(result)

    def iou(g, p):
        return (gt[g] & masks[p]).sum() / (gt[g] | masks[p]).sum()

    segments = found.segments.to_ndarray().astype(bool)

    def parts(g):
        """The segments that lie in the cell by more than half, by prediction."""
        return {
            p: (segment & gt[g]).sum()
            for p, segment in zip(found.segment_of, segments, strict=True)
            if (segment & gt[g]).sum() > segment.sum() / 2
        }

    assert len(out.cells) == len(gt)
    assert len(out.predictions) == len(masks)
    assert set(out.cells) <= set(CELL_OUTCOMES)
    assert set(out.predictions) <= set(PREDICTION_OUTCOMES)
    for outcome in ("true", "wrong class"):
        pairs = [
            (g, out.cell_partners[g]) for g in np.flatnonzero(out.cells == outcome)
        ]
        back = np.flatnonzero(out.predictions == outcome)
        assert sorted(pairs) == sorted((out.prediction_partners[p], p) for p in back)
        for g, p in pairs:
            assert iou(g, p) >= 0.5
            same = result.gt_labels[g] == result.labels[p]
            assert same == (outcome == "true")
    for p, (outcome, g) in enumerate(
        zip(out.predictions, out.prediction_partners, strict=True)
    ):
        overlaps = [iou(i, p) for i in range(len(gt))]
        assert (outcome == "low score") == (result.scores[p] < 0.3)
        assert (g >= 0) == (outcome not in ("false", "ignored", "low score"))
        if outcome == "bad mask":
            assert 0.1 <= max(overlaps) < 0.5
            assert overlaps[g] == max(overlaps)
        elif outcome == "false":
            assert max(overlaps, default=0) < 0.1
        elif outcome == "duplicate":
            assert overlaps[g] >= 0.5
            assert out.cells[g] in ("true", "wrong class")
        elif outcome == "merged":
            assert sum((m & masks[p]).sum() > m.sum() / 2 for m in gt) >= 2
        elif outcome == "split":
            assert out.cells[g] == "split"
            assert p in parts(g)
    for g, (outcome, p) in enumerate(zip(out.cells, out.cell_partners, strict=True)):
        assert (p >= 0) == (outcome != "missed")
        used = np.flatnonzero(found.used)
        left = [q for q in used if out.predictions[q] not in ("true", "wrong class")]
        if outcome == "bad mask":
            assert 0.1 <= max(iou(g, q) for q in left) < 0.5
        elif outcome == "missed":
            assert max((iou(g, q) for q in left), default=0) < 0.1
        elif outcome == "split":
            # Each part may itself be merged, say: then no prediction is "split".
            assert p in parts(g)
            assert len(parts(g)) >= 2
            assert sum(parts(g).values()) > gt[g].sum() / 2
        elif outcome == "merged":
            assert (gt[g] & masks[p]).sum() > gt[g].sum() / 2


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=50)
def test_confusion_adds_up_to_the_counts_of_f1(seed, ignored):
    result = random_result(np.random.default_rng(seed), ignored)
    found = match_image(result, 0.3)
    n = len(CLASSES)
    table = confusion(find_outcomes(found), result.gt_labels, result.labels, n)
    hits, false, missed = detection_counts(found, n).T
    np.testing.assert_array_equal(np.diag(table)[:n], hits)
    np.testing.assert_array_equal(table[:n].sum(axis=1), hits + missed)
    np.testing.assert_array_equal(table[:, :n].sum(axis=0), hits + false)
    assert table[n, n] == 0
