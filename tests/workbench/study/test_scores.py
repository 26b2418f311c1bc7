"""Counts by score and group give AP50 again."""

from __future__ import annotations

import numpy as np
import pytest

from custom.workbench.analysis.sample import Sample
from custom.workbench.study.scores import BINS, _sparse, average_precision, dense


def test_average_precision_is_that_of_coco_up_to_the_width_of_a_bin():
    rng = np.random.default_rng(0)
    n, cells = 4000, 2500
    score = np.sort(rng.beta(0.6, 1.2, n))[::-1]
    true = rng.random(n) < score**0.7
    sample = Sample(
        np.zeros(n, int), np.zeros(n, int), score, true, np.array([[cells]]),
        *[np.zeros(0)] * 3,
    )  # fmt: skip
    bins = np.minimum(BINS * np.sqrt(score), BINS - 1).astype(int)
    seen = np.bincount(bins, minlength=BINS)
    hits = np.bincount(bins[true], minlength=BINS)
    exact = sample.curve(0, np.ones(1))[0].mean()
    assert average_precision(np.array(cells), seen, hits) == pytest.approx(
        exact, abs=0.004
    )


def test_without_cells_there_is_no_value_and_without_hits_it_is_zero():
    counts = np.zeros((2, BINS), int)
    values = average_precision(np.array([0, 3]), counts, counts)
    assert np.isnan(values[0])
    assert values[1] == 0


def test_counts_survive_the_file():
    rng = np.random.default_rng(0)
    seen, true = rng.integers(0, 3, (2, 4, BINS))
    cells, again, hits = dense([[[1, 2, 3, 4], _sparse(seen), _sparse(true)]])
    assert cells.tolist() == [[1, 2, 3, 4]]
    assert (again[0] == seen).all()
    assert (hits[0] == true).all()
