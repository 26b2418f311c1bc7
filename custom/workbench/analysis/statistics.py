"""Intervals and p-values over groups of images, such as patients.

Images of one patient resemble each other, so the patient is what is independent. The
intervals are 95 % t intervals over groups: at 5 to 20 groups they cover what they say
(tests/workbench/analysis/test_statistics.py simulates it), while a bootstrap of so few
groups covers 83 to 93 %. With fewer groups the interval is missing and the reason is
given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit

MIN_GROUPS = 5
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: The score or difference; NaN where it is not defined.
        low: Lower bound of the 95 % interval; NaN where there is none.
        high: Upper bound.
        p: Two-sided p-value of "the difference is 0" by the t test that belongs to the
            interval: below .05 exactly where the interval excludes 0. NaN for a score
            and where there is no interval.
        n_groups: Independent groups with a value.
        reason: Why there is no interval; empty where there is one.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    n_groups: int = 0
    reason: str = ""


def group_mean(values: Sequence[float], groups: Sequence) -> Estimate:
    """Mean of the groups' means of a score in 0..1, each group counting once.

    The interval is taken on the logit scale, so that it stays within 0..1 and covers
    also where the scores are skewed.

    Args:
        values: (N,) one score for each image; NaN (not defined) is left out.
        groups: (N,) the group of each image.
    """
    values, groups = _known(np.asarray(values, float)[None], groups)
    means = _group_means(values, groups)[0][0]
    n = len(means)
    if not n:
        return Estimate(np.nan, reason="no image has a value")
    value = float(means.mean())
    if n < MIN_GROUPS:
        return Estimate(value, n_groups=n, reason=_too_few(n))
    return _t_interval(value, means.var(ddof=1) / n, n - 1, n, score=True)


def paired_difference(
    first: Sequence, second: Sequence, groups: Sequence, folds: Sequence | None = None
) -> Estimate:
    """Mean over groups of second minus first, on the same images.

    Without seeds this is the paired t test of the groups' means
    (``scipy.stats.ttest_rel``), and speaks about these two trained models. With seeds
    it speaks about the two recipes: the variance between seeds of one fold is added to
    that between groups, and the degrees of freedom are the harmonic mean of the two,
    weighted by the variances (more careful than Satterthwaite's, which cover 92 % with
    three seeds).

    Args:
        first: (N,) the metric of each image by the first recipe, or (S, N) by S seeds;
            an image with a NaN on any side is left out.
        second: Likewise by the second recipe.
        groups: (N,) the group of each image.
        folds: (N,) the fold whose model has predicted the image: with S seeds there
            are S models for each fold. None for a single fold. A group lies in one
            fold.

    Raises:
        ValueError: The shapes differ, or a group lies in several folds.
    """
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    folds = np.zeros(first.shape[1], int) if folds is None else np.asarray(folds)
    if not first.shape == second.shape == (len(first), len(groups)):
        raise ValueError("the two sides and the groups differ in their shapes")
    keys = list(zip(folds.tolist(), groups, strict=True))
    if len(set(keys)) != len(set(groups)):
        raise ValueError("a group lies in several folds")
    difference, groups, folds = _known(second - first, groups, folds)
    means, group_folds = _group_means(difference, groups, folds)
    n_seeds, n = means.shape
    if not n:
        return Estimate(np.nan, reason="no image has a value on both sides")
    by_group = means.mean(axis=0)
    value = float(by_group.mean())
    if n < MIN_GROUPS:
        return Estimate(value, n_groups=n, reason=_too_few(n))
    variance = by_group.var(ddof=1) / n
    df = n - 1
    if n_seeds > 1:
        fold_means, _ = _group_means(means, group_folds)
        _, sizes = np.unique(group_folds, return_counts=True)
        of_seeds = (sizes / n) ** 2 @ fold_means.var(axis=0, ddof=1) / n_seeds
        df_seeds = len(sizes) * (n_seeds - 1)
        if variance + of_seeds > 0:
            df = (variance + of_seeds) / (variance / df + of_seeds / df_seeds)
        variance += of_seeds
    return _t_interval(value, variance, df, n)


def jackknife(
    value: float, left_out: np.ndarray, sizes: np.ndarray, score: bool = True
) -> Estimate:
    """Interval of any metric from its values without one group each.

    Tukey's delete-one-group jackknife (Efron and Stein, Annals of Statistics 9, 586
    (1981)). Groups of unequal size tell less than their number says, so the degrees of
    freedom are Kish's effective number of groups, ``(sum n)^2 / sum n^2``, less one.

    Args:
        value: The metric of all groups.
        left_out: (U,) the metric without each group.
        sizes: (U, K) what each group has of each of the K classes that the metric
            averages, such as cells. A group that has none of a class does not count
            for it; the class with the fewest groups decides.
        score: Whether the value lies in 0..1 (interval on the logit scale) or is a
            difference (with a p-value).
    """
    sizes = np.asarray(sizes, float).reshape(len(left_out), -1)
    n = int((sizes > 0).sum(axis=0).min(initial=len(left_out)))
    if np.isnan(value):
        return Estimate(np.nan, n_groups=n, reason="not defined here")
    if n < MIN_GROUPS:
        return Estimate(float(value), n_groups=n, reason=_too_few(n))
    effective = (sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0)).min()
    count = len(left_out)
    variance = (count - 1) / count * np.sum((left_out - value) ** 2)
    return _t_interval(float(value), variance, effective - 1, n, score)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number by Holm's step-down rule.

    Holm, Scandinavian Journal of Statistics 6, 65 (1979). NaN stays NaN and does not
    count.

    Args:
        p_values: (M,) of all tests that are shown together.

    Returns:
        (M,) float64.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)  # NaN last
    order = order[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(p.shape, np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def _known(values: np.ndarray, *labels: Sequence) -> tuple[np.ndarray, ...]:
    """The columns without NaN, and their labels."""
    keep = ~np.isnan(values).any(axis=0)
    return values[:, keep], *(np.asarray(label)[keep] for label in labels)


def _group_means(
    values: np.ndarray, groups: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """(S, G) means of the groups' columns, and the label of each group."""
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    sums = np.stack([np.bincount(index, row, len(first)) for row in values])
    return sums / np.bincount(index), None if labels is None else labels[first]


def _t_interval(
    value: float, variance: float, df: float, n: int, score: bool = False
) -> Estimate:
    """The 95 % t interval, with the p-value of a difference."""
    error = float(np.sqrt(variance))
    # Below this it is the rounding of a sum of equal numbers.
    if error <= 1e-12:
        p = np.nan if score else float(abs(value) <= 1e-12)
        return Estimate(value, value, value, p, n)
    margin = stats.t.ppf((1 + LEVEL) / 2, df) * error
    if score and 0 < value < 1:
        middle, margin = logit(value), margin / (value * (1 - value))
        low, high = expit([middle - margin, middle + margin]).tolist()
        return Estimate(value, low, high, n_groups=n)
    p = np.nan if score else float(2 * stats.t.sf(abs(value) / error, df))
    return Estimate(value, float(value - margin), float(value + margin), p, n)


def _too_few(n: int) -> str:
    return f"{n} independent group{'s' * (n != 1)}; an interval needs {MIN_GROUPS}"
