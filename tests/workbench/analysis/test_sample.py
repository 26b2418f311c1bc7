import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.evaluation.cell_coco_metric import (
    average_precision,
    coco_detections,
    coco_ground_truth,
)
from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import detection_counts, precision_recall_f1
from custom.workbench.analysis.sample import Sample, estimates
from tests.cell_scenes import CLASSES, make_result, random_result
from tests.dense_masks import seeds


def scenes(seed: int, count: int = 4, ignored: bool = False) -> list:
    rng = np.random.default_rng(seed)
    return [random_result(rng, ignored, f"image{i}") for i in range(count)]


def sample_of(results, max_dets=1000, classes=CLASSES) -> Sample:
    return Sample.of([match_image(r, 0.3) for r in results], len(classes), max_dets)


@given(seeds, st.booleans(), st.booleans(), st.sampled_from([1000, 2]))
@settings(deadline=None, max_examples=50)
def test_curves_and_ap50_are_those_of_coco(seed, ignored, ties, max_dets):
    """Also its cap, which is for each image and class."""
    results = scenes(seed, ignored=ignored)
    if ties:
        for result in results:
            result.scores = result.scores.round(1)
    rows = [result.coco_row(i) for i, result in enumerate(results, 1)]
    sample = sample_of(results, max_dets)
    ap50 = sample.metrics(np.ones(4), CLASSES)
    scores = average_precision(rows, CLASSES, "segm", max_dets)
    for name in ("", *(f" {c}" for c in CLASSES)):
        expected = scores[f"mAP_50{name.replace(' ', '_')}"]
        expected = expected if expected >= 0 else np.nan
        np.testing.assert_allclose(ap50[f"AP50{name}"], expected, atol=1e-6)
    detections = coco_detections(rows, "segm")
    if not detections:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(coco_ground_truth(rows, CLASSES))
        evaluation = COCOeval_faster(truth, truth.loadRes(detections), "segm")
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    for k in range(len(CLASSES)):
        precision, score = sample.curve(k, np.ones(4))
        expected, expected_score = (
            evaluation.eval[key][0, :, k, 0, 0] for key in ("precision", "scores")
        )
        if expected[0] < 0:
            assert np.isnan(precision).all()
            continue
        np.testing.assert_allclose(precision, expected, atol=1e-6)
        # Recall 0 needs no true positive: COCO names the first prediction there.
        reached = ~np.isnan(score) & (np.arange(101) > 0)
        np.testing.assert_allclose(score[reached], expected_score[reached])
        assert not expected_score[1:][~reached[1:]].any()


@given(seeds, st.lists(st.integers(0, 2), min_size=4, max_size=4))
@settings(deadline=None, max_examples=40)
def test_weights_mean_the_evaluation_of_a_part_of_the_images(seed, weights):
    """An image of weight 2 is there twice."""
    results = scenes(seed)
    part = [
        replace(result, name=f"{result.name}_{copy}")
        for result, weight in zip(results, weights, strict=True)
        for copy in range(weight)
    ]
    if not part:
        return
    ours = sample_of(results).metrics(np.array(weights), CLASSES)
    again = sample_of(part).metrics(np.ones(len(part)), CLASSES)
    for key in {"AJI", "F1", *ours} - {"AP50", "PQ"}:
        np.testing.assert_allclose(ours[key], again[key], atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_the_metric_names_the_threshold_of_the_best_f1_of_all_classes(seed):
    """Within what COCO's 101 recalls resolve."""
    results = scenes(seed, count=30)

    def f1(threshold: float) -> float:
        matches = [match_image(result, threshold) for result in results]
        counts = sum(detection_counts(match, len(CLASSES)) for match in matches)
        return float(precision_recall_f1(counts.sum(axis=0))[2])

    rows = [result.coco_row(i) for i, result in enumerate(results, 1)]
    scores = average_precision(rows, CLASSES, "segm", 1000)
    best = max(map(f1, np.linspace(0.02, 0.98, 49)))
    assert scores["best_F1"] == pytest.approx(best, abs=0.02)
    assert f1(scores["best_F1_score"]) == pytest.approx(best, abs=0.02)


def test_no_images_have_no_scores():
    scores = average_precision([], CLASSES, "segm", 100)
    assert scores["mAP"] == -1 and scores["best_F1"] == 0


def strip(*cells: bool) -> tuple[np.ndarray, list]:
    """A row of cells, each found (with the score 0.9) or not."""
    gt = np.zeros((8, 10 * len(cells)), int)
    for i in range(len(cells)):
        gt[2:6, 10 * i + 2 : 10 * i + 8] = i + 1
    return gt, [gt == i + 1 if detected else None for i, detected in enumerate(cells)]


def image_of(name: str, labels: list[int], detected: list[bool]):
    gt, masks = strip(*detected)
    pairs = [(m, k, 0.9) for m, k in zip(masks, labels, strict=True) if m is not None]
    return make_result(gt, labels, pairs, name=name)


def test_interval_has_no_width_where_no_class_varies():
    """Identical images; a class that is never found is in some of them only. Averages
    over the classes of each resample gave [.5, 1] here."""
    results = [image_of(f"i{i}", [0], [True]) for i in range(4)]
    results += [image_of(f"j{i}", [0, 1], [True, False]) for i in range(5)]
    intervals = estimates([sample_of(results)], CLASSES, [r.name for r in results])
    for key in ("AP50", "PQ"):
        assert intervals[key].value == pytest.approx(0.5)
        assert intervals[key].low == pytest.approx(0.5)
        assert intervals[key].high == pytest.approx(0.5)
    assert intervals["F1"].low < intervals["F1"].value < intervals["F1"].high


def test_a_class_of_few_groups_leaves_no_interval_of_the_mean_and_says_why():
    results = [image_of(f"i{i}", [0], [i % 2 == 0]) for i in range(6)]
    results.append(image_of("rare", [0, 1], [True, True]))
    intervals = estimates([sample_of(results)], CLASSES, [r.name for r in results])
    assert (
        intervals["AP50 a"].low < intervals["AP50 a"].value < intervals["AP50 a"].high
    )
    for key in ("AP50", "AP50 b", "PQ"):
        assert np.isnan(intervals[key].low)
        assert intervals[key].reason == "1 independent group; an interval needs 5"


def test_many_images_are_taken_together_in_blocks():
    results = [image_of(f"i{i}", [0], [i % 3 > 0]) for i in range(250)]
    intervals = estimates([sample_of(results)], CLASSES, [r.name for r in results])
    assert intervals["F1"].n_groups == 200
    assert intervals["F1"].low < intervals["F1"].value < intervals["F1"].high


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [5, 8, 13, 20])
def test_interval_of_ap50_and_pq_covers_what_it_says(n_groups):
    """Patients of unequal numbers of cells and difficulty, two classes; F1 is in
    test_statistics.py."""
    rng = np.random.default_rng(0)

    def patients(count: int) -> Sample:
        """Matched counts as ``Sample`` has them, drawn instead of matched."""
        skill = rng.beta(6, 3, count)
        cells = np.maximum(2, rng.lognormal(3.5, 0.7, (count, 2)).astype(int))
        parts, panoptic = [], np.zeros((count, 2, 4))
        for i in range(count):
            for k in range(2):
                hits = rng.binomial(cells[i, k], skill[i])
                false = rng.poisson(0.4 * cells[i, k])
                true = np.r_[np.ones(hits, bool), np.zeros(false, bool)]
                score = np.where(
                    true, rng.beta(4, 2, len(true)), rng.beta(2, 4, len(true))
                )
                parts.append(
                    (np.full(len(true), i), np.full(len(true), k), score, true)
                )
                quality = rng.uniform(0.6, 0.9, hits).sum()
                panoptic[i, k] = hits, false, cells[i, k] - hits, quality
        image, label, score, true = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(-score)
        return Sample(
            *(part[order] for part in (image, label, score, true)),
            cells, panoptic, panoptic[..., :3], skill,
        )  # fmt: skip

    truth = patients(4000).metrics(np.ones(4000), "ab")
    trials, inside = 1500, {"AP50": 0, "PQ": 0}
    for _ in range(trials):
        intervals = estimates([patients(n_groups)], "ab", range(n_groups))
        for key in inside:
            inside[key] += intervals[key].low <= truth[key] <= intervals[key].high
    assert min(inside.values()) / trials >= 0.93, inside
