import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import detection_counts
from custom.workbench.analysis.outcomes import confusion, find_outcomes
from tests.cell_scenes import CLASSES, bitmaps, make_result, random_result
from tests.dense_masks import seeds


def bar(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((10, 60), bool)
    mask[:, start:stop] = True
    return mask


def outcomes(gt, gt_labels, predictions, ignored=None):
    result = find_outcomes(
        match_image(make_result(gt, gt_labels, predictions, ignored), 0.5)
    )
    return result.cells.tolist(), result.predictions.tolist()


ONE, TWO = 1 * bar(0, 20), bar(0, 20) + 2 * bar(20, 40)


@pytest.mark.parametrize(
    ("gt", "labels", "predictions", "cells", "result"),
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
def test_hand_made_outcomes(gt, labels, predictions, cells, result):
    assert outcomes(gt, labels, predictions) == (cells, result)


def test_the_true_class_goes_first_and_the_other_is_a_duplicate():
    predictions = [(bar(0, 20), 1, 0.99), (bar(0, 20), 0, 0.6)]
    assert outcomes(ONE, [0], predictions) == (["true"], ["duplicate", "true"])


def test_ignored_predictions_have_no_other_outcome():
    predictions = [(bar(30, 50), 0, 0.9), (bar(30, 50), 0, 0.1)]
    region = bar(35, 60)
    assert outcomes(ONE, [0], predictions, region) == (
        ["missed"],
        ["ignored", "low score"],
    )


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=100)
def test_every_cell_and_prediction_has_one_outcome_that_fits(seed, ignored):
    result = random_result(np.random.default_rng(seed), ignored)
    matches = match_image(result, 0.3)
    out = find_outcomes(matches)
    gt, masks = bitmaps(result)
    segments = matches.segments.to_ndarray().astype(bool)
    iou = np.array([[(g & p).sum() / (g | p).sum() for p in masks] for g in gt])
    iou = iou.reshape(len(gt), len(masks))
    covered = np.array([[(g & p).sum() / g.sum() for p in masks] for g in gt])
    covered = covered.reshape(iou.shape)

    def parts(g: int) -> dict[int, int]:
        """Pixels of the segments that lie by more than half in a cell."""
        inside = [(segment & gt[g]).sum() for segment in segments]
        pairs = zip(matches.segment_of, inside, segments, strict=True)
        return {p: n for p, n, segment in pairs if n > segment.sum() / 2}

    assert len(out.cells) == len(gt) and len(out.predictions) == len(masks)
    for outcome in ("true", "wrong class"):
        cells = np.flatnonzero(out.cells == outcome)
        back = np.flatnonzero(out.predictions == outcome)
        pairs = [(g, out.cell_partners[g]) for g in cells]
        assert sorted(pairs) == sorted((out.prediction_partners[p], p) for p in back)
        for g, p in pairs:
            same = result.gt_labels[g] == result.labels[p]
            assert iou[g, p] >= 0.5 and same == (outcome == "true")
    matched = np.isin(out.cells, ("true", "wrong class"))
    for p, outcome in enumerate(out.predictions):
        g, best = out.prediction_partners[p], iou[:, p].max(initial=0)
        assert (outcome == "low score") == (result.scores[p] < 0.3)
        if outcome == "bad mask":
            assert 0.1 <= iou[g, p] == best < 0.5
        elif outcome == "false":
            assert best < 0.1
        elif outcome == "duplicate":
            assert iou[g, p] >= 0.5 and matched[g]
        elif outcome == "merged":
            assert (covered[:, p] > 0.5).sum() >= 2
        elif outcome == "split":
            assert out.cells[g] == "split" and p in parts(g)
    left = matches.used & ~np.isin(out.predictions, ("true", "wrong class"))
    for g, outcome in enumerate(out.cells):
        p, best = out.cell_partners[g], iou[g, left].max(initial=0)
        if outcome == "bad mask":
            assert 0.1 <= best < 0.5
        elif outcome == "missed":
            assert best < 0.1 and p < 0
        elif outcome == "merged":
            assert covered[g, p] > 0.5
        elif outcome == "split":
            # Each part may itself be merged, say: then no prediction is "split".
            assert p in parts(g) and sum(parts(g).values()) > gt[g].sum() / 2


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=50)
def test_confusion_adds_up_to_the_counts_of_f1(seed, ignored):
    result = random_result(np.random.default_rng(seed), ignored)
    matches = match_image(result, 0.3)
    n = len(CLASSES)
    table = confusion(find_outcomes(matches), result.gt_labels, result.labels, n)
    hits, false, missed = detection_counts(matches, n).T
    np.testing.assert_array_equal(np.diag(table)[:n], hits)
    np.testing.assert_array_equal(table[:n].sum(axis=1), hits + missed)
    np.testing.assert_array_equal(table[:, :n].sum(axis=0), hits + false)
    assert table[n, n] == 0
