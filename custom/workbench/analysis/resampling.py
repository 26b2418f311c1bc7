"""Intervals and tests over images or patients, without evaluating again.

Each image is matched once. A resample is a weight for each image, how often it was
drawn, and every figure is a function of such weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom.evaluation.detection import precision_recall_f1
from custom.evaluation.panoptic import panoptic_quality

_LEVEL = 0.95
RECALLS = np.linspace(0, 1, 101)  # COCO's recThrs
# Elements of an array of (resamples, true positives) at once.
_AT_ONCE = 1 << 22


@dataclass
class Sample:
    """What the figures of a run are made of; I images, C classes, D predictions.

    Attributes:
        image: (D,) int64, the image of each prediction, ascending.
        label: (D,) int64, its class.
        score: (D,) float64, its score.
        true: (D,) bool, whether it is matched at mask IoU 0.5.
        cells: (I, C) int64, the cells of each class.
        panoptic: (I, C, 4) float64, see :func:`custom.evaluation.panoptic.pq_counts`.
        detection: (I, C, 3) float64, see
            :func:`custom.evaluation.detection.detection_counts`.
        aji: (I,) float64, NaN where there is none.

    Ignored predictions, and those beyond the allowed number of detections, are left
    out of the first four.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    true: np.ndarray
    cells: np.ndarray
    panoptic: np.ndarray
    detection: np.ndarray
    aji: np.ndarray

    @classmethod
    def cat(cls, first: Sample, second: Sample) -> Sample:
        """Both, the images of ``second`` behind those of ``first``."""
        parts = {
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in cls.__dataclass_fields__
        }
        parts["image"][len(first.image) :] += len(first.cells)
        return cls(**parts)

    def figures(
        self, weights: np.ndarray, classes: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The figures of each resample.

        Args:
            weights: (B, I), how often each image is in each resample.
            classes: C names.

        Returns:
            ``AP50, PQ, AJI, F1`` and ``AP50 <class>, PQ <class>``, each (B,) float64,
            NaN where a figure is not defined. AP50 and PQ are means over the classes
            that the resample has.
        """
        weights = np.asarray(weights, np.float64)
        ap50 = self.ap50(weights)
        panoptic = np.einsum("bi,icn->bcn", weights, self.panoptic)
        pq = panoptic_quality(panoptic)[0]
        known = ~np.isnan(self.aji)
        with np.errstate(invalid="ignore"):
            aji = weights[:, known] @ self.aji[known] / weights[:, known].sum(axis=1)
        found = {
            "AP50": mean_of_known(ap50),
            "PQ": mean_of_known(pq),
            "AJI": aji,
            "F1": precision_recall_f1(weights @ self.detection.sum(axis=1))[2],
        }
        for k, name in enumerate(classes):
            found[f"AP50 {name}"], found[f"PQ {name}"] = ap50[:, k], pq[:, k]
        return found

    def ap50(self, weights: np.ndarray) -> np.ndarray:
        """AP50 of each class as COCO accumulates it, for each resample.

        Precision is largest at a true positive, so its curve is needed there only: the
        predictions up to a true positive are counted by image once, and a product with
        the weights gives them for all resamples. Predictions of one score keep their
        order; those of an image that is drawn twice count together.

        Args:
            weights: (B, I), how often each image is in each resample.

        Returns:
            (B, C) float64, NaN where the resample has no cell of the class.
        """
        total = weights @ self.cells
        result = np.empty_like(total)
        for k in range(total.shape[1]):
            _, true, seen = self._curve(k)
            step = max(1, _AT_ONCE // (len(true) + 1))
            for begin in range(0, len(weights), step):
                rows = slice(begin, begin + step)
                result[rows, k] = _interpolate(
                    weights[rows] @ true.T, weights[rows] @ seen.T, total[rows, k]
                )[0].mean(axis=1)
        return result

    def precision_recall(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The curve of class ``k`` over all images.

        Returns:
            Precision at recall 0, 0.01, ..., 1 and the score that reaches it, each
            (101,) float64; NaN without a cell, or where no score does.
        """
        order, true, seen = self._curve(k)
        total = self.cells[:, k].sum()
        precision, index = _interpolate(
            true.sum(axis=1)[None], seen.sum(axis=1)[None], total[None]
        )
        score = np.append(self.score[order[self.true[order]]], np.nan)
        return precision[0], score[index[0]]

    def best_f1(self, k: int) -> tuple[float, float]:
        """The largest F1 of class ``k`` over all images, and the threshold of it."""
        own = self._curve(k)[0]
        score, true = self.score[own], self.true[own].cumsum()
        # Predictions of one score are taken together.
        last = np.flatnonzero(np.diff(score, append=-1))
        if not len(last):
            return float("nan"), float("nan")
        f1 = 2 * true[last] / (last + 1 + self.cells[:, k].sum())
        return float(f1.max()), float(score[last[f1.argmax()]])

    def _curve(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions of class ``k`` by score, and the counts at each true one.

        Returns:
            (D_k,) indices; (T, I) float64 true positives and (T, I) predictions of
            each image up to each true positive, itself included.
        """
        n_images = len(self.cells)
        own = np.flatnonzero(self.label == k)
        own = own[np.argsort(-self.score[own], kind="stable")]
        hits = np.flatnonzero(self.true[own])
        # The true positive at or behind each prediction.
        place = np.searchsorted(hits, np.arange(len(own)))
        cell = place * n_images + self.image[own]
        seen = np.bincount(cell, minlength=(len(hits) + 1) * n_images)
        seen = seen.reshape(-1, n_images)[:-1].cumsum(axis=0)
        true = np.zeros((len(hits), n_images))
        true[np.arange(len(hits)), self.image[own[hits]]] = 1
        return own, true.cumsum(axis=0), seen.astype(np.float64)


def _interpolate(
    true: np.ndarray, seen: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision at COCO's 101 recalls.

    Args:
        true: (B, T) true positives so far, ascending.
        seen: (B, T) predictions so far.
        total: (B,) cells.

    Returns:
        (B, 101) precision, NaN without cells, and (B, 101) the first true positive
        that reaches the recall, T where none does: there the precision is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(true / seen)
        recall = true / total[:, None]
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))
    index = np.full((len(true), len(RECALLS)), true.shape[1])
    for i in np.flatnonzero(total > 0):
        index[i] = np.searchsorted(recall[i], RECALLS, side="left")
    precision = np.take_along_axis(precision, index, axis=1)
    return np.where(total[:, None] > 0, precision, np.nan), index


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)


def units_of(names: Sequence[str]) -> np.ndarray:
    """(U, I) float64, which images belong to each unit, from the units' names."""
    units, index = np.unique(np.asarray(names), return_inverse=True)
    return (np.arange(len(units))[:, None] == index).astype(np.float64)


def bootstrap_weights(units: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Draw as many units as there are, with replacement.

    Units are images, or patients with all of their images (cluster bootstrap; Davison
    and Hinkley, Bootstrap Methods and their Application, 1997).

    Args:
        units: (U, I), see :func:`units_of`.
        resamples: B.
        seed: Of the draws.

    Returns:
        (B, I) float64, how often each image was drawn.
    """
    count = len(units)
    draws = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=resamples
    )
    return draws @ units


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrap values (Efron, 1981); NaN are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - _LEVEL) / 2
    return tuple(float(v) for v in np.quantile(values, (tail, 1 - tail)))


def exchanges(units: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, bool]:
    """Which units two runs exchange, for a permutation test.

    All ways if they are no more than ``resamples``, else random ones.

    Returns:
        (B, I) float64 of 0 and 1, and whether these are all ways.
    """
    count = len(units)
    if 2**count <= resamples:
        swaps = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return swaps @ units, True
    swaps = np.random.default_rng(seed).integers(0, 2, (resamples, count))
    return swaps @ units, False


def p_value(observed: float, values: np.ndarray, exhaustive: bool) -> float:
    """Two-sided p-value of a permutation test.

    The share of exchanges with a difference as large as the observed one; with random
    exchanges the observed one is added to them (Phipson and Smyth, 2010, so that it
    is never 0).
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan")  # such as the AP of a class that no image has
    # Sums in another order may differ in their last digits.
    large = np.count_nonzero(np.abs(values) >= abs(observed) - 1e-12)
    if exhaustive:
        return large / len(values)
    return (large + 1) / (len(values) + 1)
