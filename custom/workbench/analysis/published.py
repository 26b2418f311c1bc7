"""Scores by the rules of published benchmarks, for comparison with their papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from custom.evaluation.iou_table import IoUTable
from custom.evaluation.matching import ImageMatch
from custom.evaluation.panoptic import (
    best_pairs,
    mean_of_defined,
    panoptic_quality,
    pq_counts,
)
from custom.structures import LabelMasks
from custom.structures.rle import run_pixels

# HoVer-Net's distance of two centroids that mean one cell, 3 µm at 40x.
_RADIUS = 12.0
_DSB_IOUS = np.arange(50, 100, 5) / 100


def panoptic_scores(
    matches: Sequence[ImageMatch], counts: np.ndarray
) -> dict[str, float]:
    """The averages of image-wise PQ that papers report.

    ``mPQ`` and ``bPQ`` are PanNuke's (Gamper et al., arXiv:2003.10778, and ``run.py``
    of its published code): PQ of each class in each image that has the class, mean
    over the classes of an image, then over images; ``bPQ`` without classes. Images
    without any cell are left out of both. There, a mean over tissues follows.

    ``aPQ`` is MoNuSAC's (Verma et al., IEEE TMI 40, 3413 (2021), and its published
    ``PQ_metric.ipynb``, without the error in it that Foucart et al. describe): mean
    over the images that have the class, then over classes. Segments of a class that
    the image lacks do not count. In ``aPQ_fp`` they do: PQ of that class there is 0.

    ``DSB`` is the mean over images of TP / (TP + FP + FN), without classes, averaged
    over the IoU thresholds 0.5, 0.55, ..., 0.95 (Kaggle's Data Science Bowl 2018;
    StarDist's ``accuracy``).

    Args:
        matches: One for each of the I images.
        counts: (I, C, 4), :func:`custom.evaluation.panoptic.pq_counts` of each.
    """
    quality = panoptic_quality(counts)[0]  # 0 where there are segments and no cells
    cells = counts[..., 0] + counts[..., 2]
    of_present = np.where(cells > 0, quality, np.nan)
    binary = np.stack([_binary_counts(match) for match in matches])
    has_cells = binary[:, 0] + binary[:, 2] > 0
    return {
        "mPQ": mean_of_defined(mean_of_defined(of_present)),
        "bPQ": mean_of_defined(
            np.where(has_cells, panoptic_quality(binary)[0], np.nan)
        ),
        "aPQ": mean_of_defined(mean_of_defined(of_present.T)),
        "aPQ_fp": mean_of_defined(mean_of_defined(quality.T)),
        "DSB": mean_of_defined(
            np.array([dsb_score(match.segment_table) for match in matches])
        ),
    }


def dsb_score(table: IoUTable) -> float:
    """TP / (TP + FP + FN) of one image, mean over the IoU thresholds 0.5 to 0.95.

    NaN where there is neither cell nor segment.
    """
    n_cells, n_segments = len(table.gt_areas), len(table.pred_areas)
    if not n_cells + n_segments:
        return float("nan")
    scores = []
    for threshold in _DSB_IOUS:
        keep = table.iou >= threshold
        pairs = (table.gt[keep], table.pred[keep])
        graph = coo_matrix((np.ones(keep.sum()), pairs), shape=(n_cells, n_segments))
        hits = np.count_nonzero(maximum_bipartite_matching(graph.tocsr()) >= 0)
        scores.append(hits / (n_cells + n_segments - hits))
    return float(np.mean(scores))


def centroid_counts(match: ImageMatch, n_classes: int) -> np.ndarray:
    """Cells against segments by their centroids, after HoVer-Net.

    One-to-one pairs within 12 pixels, whatever the class, that minimise the sum of
    distances, where a centroid without a partner costs 12 pixels. HoVer-Net's
    ``pair_coordinates`` (Graham et al., Medical Image Analysis 58, 101563 (2019))
    assigns all G x P pairs first and drops those beyond 12 pixels afterwards, which
    needs a dense matrix and sometimes gives up a near pair for a far one.

    Returns:
        (C + 1, C + 1) int64, rows: class of the cell, columns: class of the segment,
        last: no partner.
    """
    cells, segments = _centroids(match.result.gt), _centroids(match.segments)
    pairs = cKDTree(cells).sparse_distance_matrix(
        cKDTree(segments), _RADIUS, output_type="ndarray"
    )
    # A pair just at the radius is still a pair.
    gain = _RADIUS * (1 + 1e-9) - pairs["v"]
    chosen = pairs[best_pairs(pairs["i"], pairs["j"], gain)]
    partner = np.full(len(cells), n_classes)
    partner[chosen["i"]] = match.segment_labels[chosen["j"]]
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    np.add.at(counts, (match.result.gt_labels, partner), 1)
    unpaired = np.delete(match.segment_labels, chosen["j"])
    counts[n_classes, :n_classes] = np.bincount(unpaired, minlength=n_classes)
    return counts


def centroid_scores(counts: np.ndarray) -> tuple[float, float, np.ndarray]:
    """HoVer-Net's detection and classification scores.

    ``F_d = 2 TP / (2 TP + FP + FN)`` of pairs, unpaired segments and unpaired cells;
    ``accuracy`` is the share of pairs of one class; for class t
    ``F_c = 2 TP_c / (2 TP_c + 2 FP_c + 2 FN_c + FP_d + FN_d)``, where ``_c`` are pairs
    by their classes and ``_d`` the unpaired. That is the published formula with
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


def count_errors(cells: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of counting, by class.

    R² is the coefficient of determination, as in the CoNIC challenge
    (https://conic-challenge.grand-challenge.org/Evaluation, task 2): 1 - (sum of
    squared errors) / (sum of squared deviations of the true counts from their mean).

    Args:
        cells: (I, C) cells of each image and class.
        predictions: (I, C) likewise.

    Returns:
        Each (C,): ``count_mae``, the mean absolute error; ``count_bias``, the mean
        error; ``count_r2``, NaN where all images have the same count.
    """
    error = predictions - cells
    spread = ((cells - cells.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(spread > 0, 1 - (error**2).sum(axis=0) / spread, np.nan)
    return {
        "count_mae": np.abs(error).mean(axis=0),
        "count_bias": error.mean(axis=0),
        "count_r2": r2,
    }


def _binary_counts(match: ImageMatch) -> np.ndarray:
    """(4,) as :func:`pq_counts`, without classes."""
    cells = np.zeros(len(match.result.gt), np.int64)
    segments = np.zeros(len(match.segments), np.int64)
    return pq_counts(match.segment_table, cells, segments, 1)[0]


def _centroids(masks: LabelMasks) -> np.ndarray:
    """(N, 2) float64 (y, x); an empty mask lies far away."""
    sums = np.zeros((3, len(masks)))
    for owner, start, end in masks.runs():
        x, y = np.divmod(run_pixels(start, end), max(masks.height, 1))
        owner = np.repeat(owner, end - start)
        for total, values in zip(sums, (y, x, None), strict=True):
            total += np.bincount(owner, values, len(masks))
    with np.errstate(invalid="ignore"):
        return np.where(sums[2] > 0, sums[:2] / sums[2], -1e6).T
