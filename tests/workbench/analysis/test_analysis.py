import contextlib
import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from hypothesis import given, settings

from custom.errors import InputError
from custom.evaluation.cell_coco_metric import coco_detections, coco_ground_truth
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
    analysis = analyse(results, CLASSES, score_thr=0.3, resamples=20)
    cells = sum(len(r.gt) for r in results)
    counted = [sum(analysis.cell_outcomes[c].values()) for c in CLASSES]
    assert sum(counted) == analysis.figures["cells"] == cells
    assert counted == [analysis.per_class[c]["cells"] for c in CLASSES]
    made = sum(sum(analysis.prediction_outcomes[c].values()) for c in CLASSES)
    assert made == sum(len(r.rles) for r in results)
    for k, name in enumerate(CLASSES):
        figures = analysis.per_class[name]
        hits = analysis.cell_outcomes[name]["true"]
        assert analysis.confusion[k][k] == hits
        assert analysis.prediction_outcomes[name]["true"] == hits
        if figures["recall"] is not None:
            assert figures["recall"] == pytest.approx(hits / figures["cells"])
        assert analysis.curves[name].ap50 == pytest.approx(figures["AP50"], abs=1e-6)
        assert analysis.intervals["images"][f"PQ {name}"].value == figures["PQ"]
    assert analysis.intervals["images"]["F1"].value == analysis.figures["F1"]
    assert sum(analysis.recall_by_size.counts) == cells
    assert sum(analysis.recall_by_crowding.counts) == cells
    for result, image in zip(results, analysis.images, strict=True):
        assert len(image.cell_outcomes) == len(result.gt)
        assert len(image.prediction_outcomes) == len(result.rles)
    text = json.dumps(analysis.to_dict(), allow_nan=False)
    assert "sample" not in json.loads(text)


@given(seeds)
@settings(deadline=None, max_examples=15)
def test_curves_are_those_of_coco(seed):
    results = scenes(seed)
    rows = [result.coco_row(i) for i, result in enumerate(results, 1)]
    detections = coco_detections(rows, "segm")
    if not detections:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(coco_ground_truth(rows, CLASSES))
        evaluation = COCOeval_faster(truth, truth.loadRes(detections), "segm")
        evaluation.params.maxDets = [1000]
        evaluation.evaluate()
        evaluation.accumulate()
    curves = analyse(results, CLASSES, resamples=2).curves
    for k, name in enumerate(CLASSES):
        expected = evaluation.eval["precision"][0, :, k, 0, 0]
        if expected[0] < 0:
            assert curves[name].precision == [None] * 101
            continue
        np.testing.assert_allclose(curves[name].precision, expected, atol=1e-6)
        score = np.array(curves[name].score, float)
        reached = ~np.isnan(score)
        expected = evaluation.eval["scores"][0, :, k, 0, 0]
        # Recall 0 needs no true positive: COCO names the first prediction there.
        reached[0] = False
        np.testing.assert_allclose(score[reached], expected[reached])
        assert not expected[1:][~reached[1:]].any()


def test_perfect_predictions_have_perfect_figures():
    analysis = analyse(perfect(scenes(1)), CLASSES, resamples=10)
    for key in (
        "AP", "AP50", "precision", "recall", "F1", "PQ", "SQ", "PQ_image", "PQ_binary",
        "AJI", "AJI_plus", "Dice", "F_d", "accuracy", "count_r2",
    ):  # fmt: skip
        assert analysis.figures[key] == pytest.approx(1), key
    assert analysis.figures["count_mae"] == analysis.figures["ECE"] == 0
    assert analysis.intervals["images"]["AP50"].low == pytest.approx(1)


@pytest.mark.parametrize("with_cells", [True, False])
def test_images_without_predictions(with_cells):
    gt = np.zeros((20, 20), int)
    if with_cells:
        gt[:5] = 1
    analysis = analyse([make_result(gt, [0] * with_cells, [])], CLASSES, resamples=5)
    expected = 0.0 if with_cells else None
    for key in ("AP50", "F1", "PQ", "AJI", "Dice"):
        assert analysis.figures[key] == expected, key
    json.dumps(analysis.to_dict(), allow_nan=False)


def test_patients_have_intervals_where_there_are_five():
    results = scenes(2)
    few = analyse(results, CLASSES, patient_of={r.name: "p" for r in results})
    assert set(few.intervals) == {"images"}
    patient_of = {r.name: f"p{min(i, 4)}" for i, r in enumerate(results)}
    many = analyse(results, CLASSES, patient_of=patient_of)
    assert set(many.intervals) == {"images", "patients"}
    assert many.settings["patients"] == 5
    assert compare(many, many).unit == "patient"
    assert compare(few, few).unit == "image"


def test_a_run_does_not_differ_from_itself():
    analysis = analyse(scenes(3), CLASSES, resamples=100)
    for difference in compare(analysis, analysis).differences.values():
        assert difference.first == difference.second
        assert difference.difference.value in (0.0, None)
        assert difference.difference.low in (0.0, None)
        assert difference.p_value in (1.0, None)


def test_a_better_run_is_seen_to_be_better():
    results = scenes(4, count=12)
    worse = analyse(results, CLASSES, score_thr=0.3, resamples=500)
    better = analyse(perfect(results), CLASSES, score_thr=0.3, resamples=500)
    comparison = compare(worse, better)
    for key in ("AP50", "PQ", "AJI", "F1"):
        difference = comparison.differences[key]
        assert difference.difference.low > 0
        assert difference.p_value < 0.01
        assert difference.second == pytest.approx(better.figures[key])
        back = compare(better, worse).differences[key]
        assert back.difference.value == pytest.approx(-difference.difference.value)
    name = results[0].name
    assert comparison.images[name]["AP50"] == pytest.approx(
        better.images[0].figures["AP50"] - worse.images[0].figures["AP50"]
    )


def test_p_value_is_that_of_all_exchanges_of_images():
    """AJI is a mean over images: an exchange turns the sign of their difference."""
    results = [r for r in scenes(6, count=9) if len(r.gt)][:6]
    runs = [
        analyse(results, CLASSES, score_thr=thr, resamples=100) for thr in (0.6, 0.2)
    ]
    gain = np.subtract(*([i.figures["AJI"] for i in run.images] for run in runs))
    sums = [abs(np.dot(s, gain)) for s in itertools.product((1, -1), repeat=6)]
    expected = np.mean([s >= abs(gain.sum()) - 1e-9 for s in sums])
    assert 0 < expected < 1
    assert compare(*runs).differences["AJI"].p_value == pytest.approx(expected)


def test_runs_on_different_images_are_not_compared():
    results = scenes(5)
    other = [replace(results[0], name="another"), *results[1:]]
    with pytest.raises(InputError, match="different images"):
        compare(analyse(results, CLASSES), analyse(other, CLASSES))
