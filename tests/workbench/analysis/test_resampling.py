from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.detection import detection_counts, precision_recall_f1
from custom.evaluation.matching import match_image
from custom.workbench.analysis.analysis import gather
from custom.workbench.analysis.resampling import (
    Sample,
    bootstrap_weights,
    exchanges,
    interval,
    p_value,
    units_of,
)
from tests.cell_scenes import CLASSES, random_result
from tests.dense_masks import seeds


def scenes(seed: int, count: int = 4, ignored: bool = False) -> list:
    rng = np.random.default_rng(seed)
    return [random_result(rng, ignored, f"image{i}") for i in range(count)]


def sample_of(results, max_dets=1000) -> Sample:
    return gather([match_image(r, 0.3) for r in results], len(CLASSES), max_dets)


def coco_ap50(results, max_dets=1000) -> np.ndarray:
    """AP50 of each class by faster-coco-eval, and their mean; NaN for none."""
    rows = [result.coco_row(i) for i, result in enumerate(results, 1)]
    scores = average_precision(rows, CLASSES, "segm", max_dets)
    values = [scores[f"mAP_50_{c}"] for c in CLASSES] + [scores["mAP_50"]]
    return np.array([v if v >= 0 else np.nan for v in values])


@given(seeds, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_ap50_is_that_of_coco(seed, ignored, ties):
    results = scenes(seed, ignored=ignored)
    if ties:
        for result in results:
            result.scores = result.scores.round(1)
    figures = sample_of(results).figures(np.ones((1, 4)), CLASSES)
    ours = [figures[f"AP50 {c}"][0] for c in CLASSES] + [figures["AP50"][0]]
    np.testing.assert_allclose(ours, coco_ap50(results), rtol=0, atol=1e-6)


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_ap50_counts_the_best_detections_only(seed):
    """COCO's cap is for each image and class."""
    results = scenes(seed)
    ours = sample_of(results, 2).figures(np.ones((1, 4)), CLASSES)["AP50"][0]
    np.testing.assert_allclose(ours, coco_ap50(results, 2)[-1], rtol=0, atol=1e-6)


@given(seeds, st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(deadline=None, max_examples=40)
def test_a_resample_is_the_evaluation_of_its_images(seed, weights):
    """An image that is drawn twice is there twice."""
    results = scenes(seed)
    drawn = [
        replace(result, name=f"{result.name}_{copy}")
        for result, weight in zip(results, weights, strict=True)
        for copy in range(weight)
    ]
    if not drawn:
        return
    ours = sample_of(results).figures(np.array([weights]), CLASSES)
    again = sample_of(drawn).figures(np.ones((1, len(drawn))), CLASSES)
    for key in ours:
        np.testing.assert_allclose(ours[key], again[key], atol=1e-9)
    np.testing.assert_allclose(ours["AP50"][0], coco_ap50(drawn)[-1], rtol=0, atol=1e-6)


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_best_threshold_is_the_best_of_all(seed, ties):
    results = scenes(seed, ignored=True)
    if ties:
        for result in results:
            result.scores = result.scores.round(1)
    f1 = {
        t: precision_recall_f1(
            sum(detection_counts(match_image(r, t), len(CLASSES)) for r in results)
        )[2]
        for t in np.unique(np.concatenate([r.scores for r in results]))
    }
    sample = sample_of(results)
    for k in range(len(CLASSES)):
        best, threshold = sample.best_f1(k)
        if np.isnan(best):
            assert k not in sample.label
            continue
        assert best == pytest.approx(max(v[k] for v in f1.values() if v[k] == v[k]))
        assert best == pytest.approx(f1[threshold][k])


def test_many_resamples_at_once_equal_one_by_one(monkeypatch):
    sample = sample_of(scenes(3))
    weights = bootstrap_weights(np.eye(4), 50, seed=1)
    singles = [sample.figures(w[None], CLASSES) for w in weights]
    monkeypatch.setattr("custom.workbench.analysis.resampling._AT_ONCE", 20)
    for key, values in sample.figures(weights, CLASSES).items():
        np.testing.assert_allclose(values, [s[key][0] for s in singles])


def test_patients_are_drawn_with_all_of_their_images():
    units = units_of(["p", "q", "p", "r"])
    weights = bootstrap_weights(units, 200, seed=0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    patients = weights[:, [0, 1, 3]]
    assert (patients.sum(axis=1) == 3).all()
    assert len(np.unique(patients, axis=0)) == 10  # all multisets of three


def test_interval_holds_the_middle_of_the_values():
    values = np.append(np.arange(1001) / 1000, np.nan)
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    """AJI is a plain mean over images, so the truth is known."""
    rng = np.random.default_rng(0)
    inside, empty = 0, np.zeros(0, np.int64)
    for trial in range(200):
        nothing = np.zeros((40, 1, 4))
        sample = Sample(
            empty, empty, empty, empty, nothing[..., 0], nothing, nothing[..., :3],
            rng.beta(4, 2, 40),
        )  # fmt: skip
        weights = bootstrap_weights(np.eye(40), 300, seed=trial)
        low, high = interval(sample.figures(weights, ("a",))["AJI"])
        inside += low <= 4 / 6 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_few_units_are_exchanged_in_all_ways():
    swaps, exhaustive = exchanges(units_of(["p", "q", "p"]), 100, seed=0)
    assert exhaustive
    assert sorted(swaps.tolist()) == [[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]
    swaps, exhaustive = exchanges(np.eye(10), 100, seed=0)
    assert not exhaustive
    assert swaps.shape == (100, 10)


def test_p_value_by_hand():
    assert p_value(2.0, np.array([2.0, -2.0, 1.0, -1.0]), exhaustive=True) == 0.5
    assert p_value(2.0, np.array([1.0, 0.0, -1.0]), exhaustive=False) == 0.25
