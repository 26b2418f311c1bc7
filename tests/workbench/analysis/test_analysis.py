from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from custom.errors import InputError
from custom.workbench.analysis.analysis import analyse, compare
from tests.cell_scenes import CLASSES, bitmaps, make_result, random_result
from tests.dense_masks import seeds


def scenes(seed: int, count: int = 6) -> list:
    rng = np.random.default_rng(seed)
    return [random_result(rng, i % 2 == 0, f"image{i}") for i in range(count)]


def perfect(results) -> list:
    """The same images, every cell found."""
    return [
        make_result(
            r.gt.planes[0],
            r.gt_labels.tolist(),
            [(m, k, 1.0) for m, k in zip(bitmaps(r)[0], r.gt_labels, strict=True)],
            name=r.name,
        )
        for r in results
    ]


@given(seeds)
@settings(deadline=None, max_examples=15)
def test_the_parts_agree_with_each_other(seed):
    results = scenes(seed)
    analysis = analyse(results, CLASSES, score_thr=0.3)
    cells = sum(len(r.gt) for r in results)
    counted = [sum(analysis.cell_outcomes[c].values()) for c in CLASSES]
    assert sum(counted) == analysis.metrics["cells"] == cells
    assert counted == [analysis.per_class[c]["cells"] for c in CLASSES]
    counts = [sum(analysis.prediction_outcomes[c].values()) for c in CLASSES]
    assert sum(counts) == sum(len(r.rles) for r in results)
    for k, name in enumerate(CLASSES):
        metrics = analysis.per_class[name]
        hits = analysis.cell_outcomes[name]["true"]
        assert analysis.confusion[k][k] == hits
        assert analysis.prediction_outcomes[name]["true"] == hits
        if metrics["cells"]:
            assert metrics["recall"] == pytest.approx(hits / metrics["cells"])
        ap50 = analysis.intervals[f"AP50 {name}"].value
        np.testing.assert_allclose(ap50, metrics["AP50"], atol=1e-6)
        pq = analysis.intervals[f"PQ {name}"].value
        np.testing.assert_allclose(pq, metrics["PQ"])
    for key in ("F1", "PQ", "AJI"):
        np.testing.assert_allclose(analysis.intervals[key].value, analysis.metrics[key])
    bins = analysis.recall_by_size.values()
    assert sum(count for count, _ in bins) == cells
    hits = sum(analysis.cell_outcomes[c]["true"] for c in CLASSES)
    assert sum(count * recall for count, recall in bins) == pytest.approx(hits)
    for result, image in zip(results, analysis.images, strict=True):
        assert len(image.outcomes.cells) == len(result.gt)
        assert len(image.outcomes.predictions) == len(result.rles)


def test_perfect_predictions_have_perfect_scores():
    analysis = analyse(perfect(scenes(1)), CLASSES)
    for key in (
        "AP", "AP50", "precision", "recall", "F1", "PQ", "SQ", "mPQ", "bPQ", "aPQ",
        "aPQ_fp", "DSB", "AJI", "AJI_plus", "Dice", "F_d", "accuracy", "count_r2",
    ):  # fmt: skip
        assert analysis.metrics[key] == pytest.approx(1), key
    assert analysis.metrics["count_mae"] == 0
    assert analysis.intervals["F1"].low == pytest.approx(1)


@pytest.mark.parametrize("with_cells", [True, False])
def test_images_without_predictions(with_cells):
    gt = np.zeros((20, 20), int)
    if with_cells:
        gt[:5] = 1
    analysis = analyse([make_result(gt, [0] * with_cells, [])], CLASSES)
    for key in ("AP50", "F1", "PQ", "AJI", "Dice", "DSB"):
        expected = 0.0 if with_cells else np.nan
        np.testing.assert_equal(float(analysis.metrics[key]), expected, key)
    assert analysis.images[0].max_score == -1


def test_intervals_are_over_patients_where_they_are_known():
    results = scenes(2, count=12)
    few = analyse(results, CLASSES, patient_of={r.name: "p" for r in results})
    assert few.unit == "patient"
    assert few.intervals["F1"].reason == "1 independent group; an interval needs 5"
    patient_of = {r.name: f"p{i % 5}" for i, r in enumerate(results)}
    many = analyse(results, CLASSES, patient_of=patient_of)
    assert many.intervals["F1"].n_groups == 5
    assert many.intervals["F1"].low < many.intervals["F1"].high
    assert analyse(results, CLASSES).intervals["F1"].n_groups > 5


def test_a_run_does_not_differ_from_itself():
    analysis = analyse(scenes(3), CLASSES)
    for difference in compare(analysis, analysis).values():
        assert difference.value == 0 or np.isnan(difference.value)
        if not difference.reason:
            assert (difference.low, difference.high, difference.p) == (0, 0, 1)


def test_a_better_run_is_seen_to_be_better():
    results = scenes(4, count=12)
    worse = analyse(results, CLASSES, score_thr=0.3)
    better = analyse(perfect(results), CLASSES, score_thr=0.3)
    differences, back = compare(worse, better), compare(better, worse)
    for key in ("AP50", "PQ", "AJI", "F1"):
        difference = differences[key]
        assert difference.low > 0
        assert difference.p < 0.05
        gain = better.metrics[key] - worse.metrics[key]
        assert difference.value == pytest.approx(gain, abs=1e-6)
        assert back[key].value == pytest.approx(-difference.value)
    other = [replace(results[0], name="another"), *results[1:]]
    with pytest.raises(InputError, match="different images"):
        compare(worse, analyse(other, CLASSES))
