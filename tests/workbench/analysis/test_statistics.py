import numpy as np
import pytest
from scipy import stats

from custom.workbench.analysis.statistics import (
    MIN_GROUPS,
    group_mean,
    holm,
    jackknife,
    paired_difference,
)

GROUPS = (5, 8, 13, 20)  # patients of the sets that the project reports on
TRIALS = 1200
# 93 % less the error of a simulation of this size.
ENOUGH = 0.93 - 1.7 * np.sqrt(0.93 * 0.07 / TRIALS)


def images_of(rng, n_groups: int) -> np.ndarray:
    """The group of each image: 1 to 8 images for each, as in MoNuSAC."""
    return np.repeat(np.arange(n_groups), np.clip(rng.geometric(0.3, n_groups), 1, 8))


@pytest.mark.parametrize("n_groups", GROUPS)
def test_interval_of_a_mean_covers_what_it_says(n_groups):
    """Patients of skewed scores, images that vary about their patient's."""
    rng = np.random.default_rng(n_groups)
    inside = 0
    for _ in range(TRIALS):
        groups = images_of(rng, n_groups)
        patient = rng.beta(6, 3, n_groups)[groups]
        estimate = group_mean(rng.beta(20 * patient, 20 * (1 - patient)), groups)
        inside += estimate.low <= 6 / 9 <= estimate.high
    assert inside / TRIALS >= ENOUGH


@pytest.mark.parametrize("n_groups", GROUPS)
@pytest.mark.parametrize(("seeds", "folds"), [(1, 4), (2, 2), (3, 1), (3, 4)])
def test_interval_of_a_difference_covers_what_it_says(n_groups, seeds, folds):
    """Also with a spread of the seeds as large as that of the patients, and the
    p-value is below .05 in no more than 7 % of comparisons without a difference."""
    rng = np.random.default_rng(n_groups)
    inside = wrong = 0
    for _ in range(TRIALS):
        groups = images_of(rng, n_groups)
        fold = groups % folds
        gain = rng.normal(0.0, 0.04, n_groups)[groups]
        first = rng.uniform(0.2, 0.8, (seeds, len(groups)))
        runs = rng.normal(0, 0.04 * (seeds > 1), (seeds, folds))[:, fold]
        noise = rng.normal(0, 0.03, first.shape)
        result = paired_difference(first, first + gain + runs + noise, groups, fold)
        inside += result.low <= 0 <= result.high
        wrong += result.p < 0.05
    assert inside / TRIALS >= ENOUGH
    assert wrong == TRIALS - inside


@pytest.mark.parametrize("n_groups", GROUPS)
def test_interval_of_a_pooled_metric_covers_what_it_says(n_groups):
    """Recall pooled over patients whose numbers of cells are very unequal."""
    rng = np.random.default_rng(n_groups)
    inside = 0
    for _ in range(TRIALS):
        cells = np.ceil(rng.lognormal(4, 1, n_groups))
        hits = rng.binomial(cells.astype(int), rng.beta(6, 3, n_groups))
        left_out = (hits.sum() - hits) / (cells.sum() - cells)
        estimate = jackknife(hits.sum() / cells.sum(), left_out, cells)
        inside += estimate.low <= 6 / 9 <= estimate.high
    assert inside / TRIALS >= ENOUGH


def test_difference_is_the_t_test_of_the_group_means():
    rng = np.random.default_rng(0)
    groups = np.repeat(list("abcdefg"), 3)
    first, second = rng.uniform(size=(2, 21))
    first[0] = np.nan  # of group a the two other images count
    means = [np.nanmean((second - first).reshape(7, 3), axis=1)]
    expected = stats.ttest_1samp(means[0], 0)
    result = paired_difference(first, second, groups)
    assert result.value == pytest.approx(np.mean(means))
    assert result.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx(tuple(interval))
    assert result.n_groups == 7


def test_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(0).normal(size=9)
    left_out = (values.sum() - values) / 8
    result = jackknife(values.mean(), left_out, np.ones(9), score=False)
    expected = stats.ttest_1samp(values, 0)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.low == pytest.approx(expected.confidence_interval(0.95).low)


def test_few_groups_have_no_interval_but_a_reason():
    groups = np.arange(8) % (MIN_GROUPS - 1)
    values = np.linspace(0, 1, 8)
    for result in (
        group_mean(values, groups),
        paired_difference(values, values[::-1], groups),
        jackknife(0.5, np.full(8, 0.5), np.arange(8) < 4),
    ):
        assert np.isnan([result.low, result.high, result.p]).all()
        assert result.reason == "4 independent groups; an interval needs 5"


def test_values_that_do_not_vary_have_an_interval_without_width():
    score = group_mean(np.full(6, 0.3), range(6))
    assert score.low == score.value == score.high
    same = paired_difference(np.full((2, 6), 0.3), np.full((2, 6), 0.3), range(6))
    assert (same.low, same.high, same.p) == (0, 0, 1)


def test_a_group_in_two_folds_is_refused():
    with pytest.raises(ValueError, match="several folds"):
        paired_difference([1, 2], [1, 2], ["a", "a"], folds=[0, 1])


def test_holm_by_hand():
    """The example of statsmodels' and R's ``p.adjust(method="holm")``."""
    p = [0.01, np.nan, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
