import numpy as np
import pytest
from scipy import stats

from custom.workbench.analysis.statistics import MIN_GROUPS, holm, jackknife

TRIALS = 2500


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of (..., 3) hits, false and missed."""
    return 2 * counts[..., 0] / (counts[..., 0] + counts.sum(axis=-1))


@pytest.mark.parametrize(
    ("n_groups", "spread"),
    # With a spread of 1.0 the largest patient often has half of all cells.
    [*((n, 0.7) for n in (MIN_GROUPS, 6, 8, 10, 13, 16, 20, 30, 60)), (5, 1), (20, 1)],
)
def test_interval_of_f1_covers_at_least_93_percent(n_groups, spread):
    """Patients of unequal size and difficulty, which are independent of each other."""
    rng = np.random.default_rng(n_groups)
    shape = (TRIALS, n_groups)
    cells = np.maximum(2, rng.lognormal(4, spread, shape).astype(int))
    hits = rng.binomial(cells, rng.beta(6, 3, shape))
    counts = np.stack([hits, rng.poisson(0.4 * cells), cells - hits], axis=-1)
    total = counts.sum(axis=1)
    left_out = f1(total[:, None] - counts)
    rows = zip(f1(total), left_out, counts.sum(axis=-1), strict=True)
    intervals = [jackknife(*row) for row in rows]
    # Of a cell 2/3 is hit, 1/3 missed, and 0.4 is false.
    truth = f1(np.array([2 / 3, 0.4, 1 / 3]))
    assert np.mean([f.low <= truth <= f.high for f in intervals]) >= 0.93


@pytest.mark.parametrize("n_groups", [MIN_GROUPS, 8, 13, 20])
def test_test_of_a_difference_errs_in_five_percent(n_groups):
    """Two runs that are equally good on unequal patients."""
    rng = np.random.default_rng(n_groups)
    sizes = rng.lognormal(4, 0.7, (TRIALS, n_groups))
    gains = rng.normal(0, 0.04, sizes.shape) * sizes
    left_out = (gains.sum(1, keepdims=True) - gains) / (
        sizes.sum(1, keepdims=True) - sizes
    )
    values = gains.sum(1) / sizes.sum(1)
    intervals = [
        jackknife(*row, score=False)
        for row in zip(values, left_out, sizes, strict=True)
    ]
    wrong = np.mean([f.p < 0.05 for f in intervals])
    assert wrong <= 0.07
    assert wrong == np.mean([not f.low <= 0 <= f.high for f in intervals])


def test_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(0).normal(size=9)
    left_out = (values.sum() - values) / 8
    result = jackknife(values.mean(), left_out, np.ones(9), score=False)
    expected = stats.ttest_1samp(values, 0)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.low == pytest.approx(expected.confidence_interval(0.95).low)


def test_few_groups_have_no_interval_but_a_reason():
    result = jackknife(0.5, np.full(8, 0.5), np.arange(8) < 4)
    assert np.isnan([result.low, result.high, result.p]).all()
    assert result.reason == "4 independent groups; an interval needs 5"


@pytest.mark.parametrize(("value", "score", "p"), [(0.3, True, np.nan), (0, False, 1)])
def test_values_that_do_not_vary_have_an_interval_without_width(value, score, p):
    interval = jackknife(value, np.full(6, value), np.ones(6), score)
    assert interval.low == interval.value == interval.high == value
    np.testing.assert_equal(interval.p, p)


def test_holm_by_hand():
    """The example of statsmodels' and R's ``p.adjust(method="holm")``."""
    p = [0.01, np.nan, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
