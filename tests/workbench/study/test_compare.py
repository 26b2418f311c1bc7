"""Differences, intervals and the noise of seeds, on runs that are drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from custom.workbench.study.compare import compare, noise
from custom.workbench.study.page import cells, markdown
from custom.workbench.study.scores import BINS, _sparse, average_precision
from custom.workbench.study.study import Row, Run


def line(rng, run: Run, quality: float, slide: np.ndarray) -> dict:
    """A run whose groups are as hard as ``slide`` says."""
    groups, total = {}, [0, 0, 0]
    for g, shift in enumerate(slide):
        seen = rng.poisson(6, (2, BINS))
        share = np.clip(quality + shift + np.linspace(-0.4, 0.4, BINS), 0, 1)
        true = rng.binomial(seen, share)
        counts = np.array([400, 400]), seen, true
        total = [a + b for a, b in zip(total, counts, strict=True)]
        groups[f"g{g}"] = [counts[0].tolist(), _sparse(seen), _sparse(true)]
    ap = average_precision(*total)
    metrics = {"mAP_50": ap.mean(), "mAP": ap.mean() / 2, "mAP_75": 0.1}
    metrics |= {f"mAP_50_class{k}": float(ap[k % 2]) for k in (1, 2, 3, 4)}
    return {
        "row": run.row, "fold": run.fold, "seed": run.seed, "steps": 10,
        "metrics": metrics, "groups": groups, "memory": 1, "parameters": 10**6,
    }  # fmt: skip


def drawn(rng, effect: float, of_slides=0.08, of_seeds=0.02, of_effect=0.03) -> dict:
    """Baseline with three seeds and row ``a`` with one, on two folds of 8 groups."""
    lines = {}
    for fold in (0, 1):
        slide = rng.normal(0, of_slides, 8)
        gain = effect + rng.normal(0, of_effect, 8)
        for row, seeds in (("baseline", (1, 2, 3)), ("a", (1,))):
            for seed in seeds:
                run = Run(row, fold, seed)
                quality = 0.5 + rng.normal(0, of_seeds)
                lines[run] = line(rng, run, quality, slide + gain * (row == "a"))
    return lines


@pytest.fixture
def study(tmp_path):
    """As much of a study as the table needs."""
    rows = {
        "baseline": Row("baseline", folds=(0, 1), seeds=(1, 2, 3), cost=1),
        "a": Row("a", folds=(0, 1), seeds=(1,), cost=1.25),
    }
    return SimpleNamespace(
        path=tmp_path / "s.py", rows=rows, folds=2, steps=10, costs=dict,
        runs=lambda: [run for row in rows.values() for run in row.runs()],
    )  # fmt: skip


def test_intervals_cover_the_difference_of_the_recipes(study):
    """93 % or more of 300 studies; a bootstrap of the groups alone covers 70 %."""
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(300):
        table = compare(study, drawn(rng, effect=0.0))
        low, high = table[1].low, table[1].high
        covered += low <= 0 <= high
        widths.append(high - low)
    assert covered / 300 >= 0.93
    assert np.median(widths) < 0.25


def test_a_large_difference_has_a_small_corrected_p(study):
    lines = drawn(np.random.default_rng(1), effect=0.3)
    row = compare(study, lines)[1]
    assert row.low > 0
    assert row.p_holm < 0.05
    assert row.difference == pytest.approx(row.changes["mAP_50"])
    assert row.cost == 1.25
    text = markdown(study, compare(study, lines), lines)
    assert f"| {' | '.join(cells(row))} |" in text
    assert "missing" not in text


def test_one_seed_gives_a_difference_without_an_interval(study):
    lines = drawn(np.random.default_rng(2), effect=0.1)
    lines = {run: entry for run, entry in lines.items() if run.seed == 1}
    row = compare(study, lines)[1]
    assert np.isfinite(row.difference)
    assert np.isnan([row.low, row.high, row.p]).all()
    assert "no intervals" in markdown(study, compare(study, lines), lines)


def test_a_test_of_the_same_models_is_not_blamed_for_the_noise_of_training(study):
    rng = np.random.default_rng(4)
    lines = {r: v for r, v in drawn(rng, 0, of_seeds=0.2).items() if r.row != "a"}
    study.rows["a"] = Row("a", folds=(0, 1), seeds=(1, 2, 3), of="baseline")
    for run in list(lines):
        worse = {**lines[run], "metrics": dict(lines[run]["metrics"])}
        worse["metrics"]["mAP_50"] -= 0.05
        lines[Run("a", run.fold, run.seed)] = worse
    row = compare(study, lines)[1]
    assert row.difference == pytest.approx(-0.05)
    assert row.high < 0


def test_noise_is_the_pooled_deviation_within_folds(study):
    lines = {
        Run("baseline", fold, seed): {"metrics": {"mAP_50": fold + value}}
        for fold in (0, 1)
        for seed, value in ((1, 0.1), (2, 0.3))
    }
    assert noise(lines, "baseline") == (pytest.approx(np.sqrt(0.02)), 2)


def test_missing_runs_are_listed(study):
    lines = drawn(np.random.default_rng(3), effect=0)
    del lines[Run("a", 1, 1)]
    text = markdown(study, compare(study, lines), lines)
    assert "1 runs are missing, of: a." in text
