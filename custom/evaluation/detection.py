"""Figures of finding, naming and counting cells."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from custom.evaluation.matching import ImageMatch
from custom.structures import LabelMasks
from custom.structures.rle import run_pixels

# HoVer-Net's distance of two centroids that mean one cell, 3 µm at 40x.
_RADIUS = 12.0


def detection_counts(found: ImageMatch, n_classes: int) -> np.ndarray:
    """What precision and recall are made of, for one image.

    Predictions as they are, matched as for AP50.

    Returns:
        (C, 3) float64: true positives, false positives, false negatives.
    """
    labels = found.result.labels[found.used]
    true = found.match[found.used] >= 0
    hits = np.bincount(labels[true], minlength=n_classes)
    made = np.bincount(labels, minlength=n_classes)
    cells = np.bincount(found.result.gt_labels, minlength=n_classes)
    return np.stack([hits, made - hits, cells - hits], axis=1).astype(float)


def precision_recall_f1(
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``TP / (TP + FP)``, ``TP / (TP + FN)`` and their harmonic mean.

    van Rijsbergen, Information Retrieval (1979), chapter 7.

    Args:
        counts: (..., 3) as :func:`detection_counts` gives them, or sums of them.

    Returns:
        Three arrays (...), NaN where the denominator is 0.
    """
    hits, false, missed = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (2 * hits + false + missed)
        return hits / (hits + false), hits / (hits + missed), f1


def centroid_counts(found: ImageMatch, n_classes: int) -> np.ndarray:
    """Cells against segments by their centroids, as HoVer-Net counts.

    One-to-one pairs of the smallest sum of distances, whatever the class, of which
    those within 12 pixels count (Graham et al., Medical Image Analysis 58, 101563
    (2019), and its code's ``pair_coordinates``).

    Returns:
        (C + 1, C + 1) int64, rows: class of the cell, columns: class of the segment,
        last: no partner.
    """
    cells, segments = _centroids(found.result.gt), _centroids(found.segments)
    distance = cdist(cells, segments)
    row, column = linear_sum_assignment(distance)
    near = distance[row, column] <= _RADIUS
    of_cell = np.full(len(cells), n_classes)
    of_segment = np.full(len(segments), n_classes)
    labels = found.result.labels[found.segment_of]
    of_cell[row[near]] = labels[column[near]]
    of_segment[column[near]] = 0  # has a partner, is counted there
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    np.add.at(counts, (found.result.gt_labels, of_cell), 1)
    np.add.at(counts, (n_classes, labels[of_segment == n_classes]), 1)
    return counts


def centroid_figures(counts: np.ndarray) -> tuple[float, float, np.ndarray]:
    """HoVer-Net's detection and classification figures.

    ``F_d = 2 TP / (2 TP + FP + FN)`` of pairs, unpaired segments and unpaired cells;
    ``accuracy`` is the share of pairs of one class; for class t
    ``F_c = 2 TP_c / (2 TP_c + 2 FP_c + 2 FN_c + FP_d + FN_d)``, where ``_c`` are pairs
    by their classes and ``_d`` what has no partner. That is the published formula with
    its weights and, as in its code, without the pairs of which neither is of class t.

    Args:
        counts: Sum over images of :func:`centroid_counts`.

    Returns:
        ``F_d``, ``accuracy`` and (C,) ``F_c``; NaN where not defined.
    """
    pairs, diagonal = counts[:-1, :-1], np.diag(counts)[:-1]
    missed, false = counts[:-1, -1], counts[-1, :-1]
    with np.errstate(invalid="ignore"):
        total = np.float64(pairs.sum())
        f_d = 2 * total / (2 * total + false.sum() + missed.sum())
        wrong = pairs.sum(axis=0) + pairs.sum(axis=1) - 2 * diagonal
        f_c = 2 * diagonal / (2 * diagonal + 2 * wrong + false + missed)
        return float(f_d), float(diagonal.sum() / total), f_c


def count_errors(cells: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of counting, by class.

    R² is the coefficient of determination, as in the CoNIC challenge
    (https://conic-challenge.grand-challenge.org/Evaluation, task 2): 1 - (sum of
    squared errors) / (sum of squared deviations of the true counts from their mean).

    Args:
        cells: (I, C) cells of each image and class.
        found: (I, C) predictions likewise.

    Returns:
        ``count_mae``, the mean absolute error; ``count_bias``, the mean error, above 0
        for too many; ``count_r2``, NaN where all images have the same count; each (C,).
    """
    error = found - cells
    spread = ((cells - cells.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(spread > 0, 1 - (error**2).sum(axis=0) / spread, np.nan)
    return {
        "count_mae": np.abs(error).mean(axis=0),
        "count_bias": error.mean(axis=0),
        "count_r2": r2,
    }


def _centroids(masks: LabelMasks) -> np.ndarray:
    """(N, 2) float64 (y, x), NaN-free: an empty mask lies far away."""
    sums = np.zeros((3, len(masks)))
    for owner, start, end in masks.runs():
        x, y = np.divmod(run_pixels(start, end), max(masks.height, 1))
        owner = np.repeat(owner, end - start)
        for total, values in zip(sums, (y, x, None), strict=True):
            total += np.bincount(owner, values, len(masks))
    with np.errstate(invalid="ignore"):
        return np.where(sums[2] > 0, sums[:2] / sums[2], -1e6).T
