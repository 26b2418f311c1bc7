"""Metrics at one score threshold: PQ, AJI, Dice, precision and recall."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from custom.evaluation.iou_table import IoUTable
from custom.evaluation.matching import IOU_THR, ImageMatch, greedy_match


def pq_counts(
    table: IoUTable, gt_labels: np.ndarray, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """The counts of one image that PQ is computed from.

    A cell and a segment of its class match at IoU above 0.5, so that no other match
    is possible for either (Kirillov et al., CVPR 2019, arXiv:1801.00868, section 4).

    Args:
        table: Cells against segments, which do not overlap.
        gt_labels: (G,) int, from 0.
        labels: (S,) int, from 0.
        n_classes: C.

    Returns:
        (C, 4) float64: true positives, false positives, false negatives, and the sum of
        the true positives' IoU.
    """
    iou = table.iou
    keep = (iou > IOU_THR) & (gt_labels[table.gt] == labels[table.pred])
    # Cells of different planes may overlap, and then a match need not be the only one.
    best = np.zeros(len(labels))
    np.maximum.at(best, table.pred[keep], iou[keep])
    match = greedy_match(table, keep, best)
    true = match >= 0
    matched = keep & (match[table.pred] == table.gt)
    cells = np.bincount(gt_labels, minlength=n_classes)
    hits = np.bincount(labels[true], minlength=n_classes)
    segments = np.bincount(labels, minlength=n_classes)
    quality = np.bincount(labels[table.pred[matched]], iou[matched], n_classes)
    return np.stack([hits, segments - hits, cells - hits, quality], axis=1)


def panoptic_quality(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PQ, and the two that it is the product of.

    Kirillov et al., CVPR 2019, equations 1 and 2:
    ``DQ = TP / (TP + FP / 2 + FN / 2)``, ``SQ = (sum of IoU) / TP``, ``PQ = DQ SQ``.

    Args:
        counts: (..., 4) as :func:`pq_counts` gives them, or sums of them.

    Returns:
        ``PQ, DQ, SQ``, each (...), NaN where there is neither cell nor segment; SQ is
        NaN also without a true positive, where PQ is 0.
    """
    hits, false, missed, quality = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        dq = hits / (hits + false / 2 + missed / 2)
        sq = quality / hits
        pq = quality / (hits + false / 2 + missed / 2)
    return pq, dq, sq


def aji(table: IoUTable) -> float:
    """Aggregated Jaccard index of one image, without classes.

    Kumar et al., IEEE TMI 36, 1550 (2017), algorithm 1: each cell takes the segment
    with which its IoU is largest; intersections and unions are summed, segments that
    no cell has taken are added to the union. A segment may be taken several times.

    Returns:
        0..1, NaN where there is neither cell nor segment.
    """
    # The last of a cell's pairs in the order of IoU.
    order = np.lexsort((-table.pred, table.iou, table.gt))
    last = np.flatnonzero(np.diff(table.gt[order], append=-1))
    return _aggregate(table, order[last])


def aji_plus(table: IoUTable) -> float:
    """AJI with one-to-one pairs, the ones with the largest sum of IoU.

    Graham et al., HoVer-Net, Medical Image Analysis 58, 101563 (2019), and its
    ``get_fast_aji_plus``: cells and segments without a partner are added to the union.

    Returns:
        0..1, NaN where there is neither cell nor segment.
    """
    return _aggregate(table, best_pairs(table.gt, table.pred, table.iou))


def best_pairs(rows: np.ndarray, columns: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """One-to-one pairs with the largest sum of gains.

    The optimal assignment of a sparse matrix: connected components are independent, so
    that each is assigned alone and time and memory follow the pairs that are given.

    Args:
        rows: (K,) int64, no pair twice.
        columns: (K,) int64.
        gain: (K,) float, above 0.

    Returns:
        Indices of the chosen pairs, ascending.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    height, width = rows.max() + 1, columns.max() + 1
    graph = coo_matrix(
        (np.ones(len(rows)), (rows, height + columns)), (height + width,) * 2
    )
    component = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(component, kind="stable")
    bounds = np.flatnonzero(np.diff(component[order], prepend=-1, append=-1))
    chosen = []
    for first, last in pairwise(bounds):
        pairs = order[first:last]
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        row, i = np.unique(rows[pairs], return_inverse=True)
        column, j = np.unique(columns[pairs], return_inverse=True)
        block = np.zeros((len(row), len(column)))
        place = np.full(block.shape, -1)
        block[i, j], place[i, j] = gain[pairs], pairs
        assigned = place[linear_sum_assignment(block, maximize=True)]
        chosen.append(assigned[assigned >= 0])
    return np.sort(np.concatenate(chosen))


def _aggregate(table: IoUTable, pairs: np.ndarray) -> float:
    """Sum of intersections over sum of unions, with what is in no pair."""
    alone_gt, alone_pred = table.gt_areas.copy(), table.pred_areas.copy()
    alone_gt[table.gt[pairs]] = alone_pred[table.pred[pairs]] = 0
    union = table.unions[pairs].sum() + alone_gt.sum() + alone_pred.sum()
    return float(table.pixels[pairs].sum() / union) if union else float("nan")


def dice(match: ImageMatch) -> float:
    """Dice of the pixels of all cells and of all segments: 2 |A B| / (|A| + |B|).

    Dice, Ecology 26, 297 (1945).

    Returns:
        0..1, NaN where there is neither cell nor segment.
    """
    truth = match.result.gt.foreground()
    segments = match.segments.foreground()
    total = np.count_nonzero(truth) + np.count_nonzero(segments)
    both = np.count_nonzero(truth & segments)
    return 2 * both / total if total else float("nan")


def detection_counts(match: ImageMatch, n_classes: int) -> np.ndarray:
    """The counts of one image that precision and recall are computed from.

    The predictions are taken as masks that may overlap, matched as for AP50.

    Returns:
        (C, 3) float64: true positives, false positives, false negatives.
    """
    labels = match.result.labels[match.used]
    true = match.match[match.used] >= 0
    hits = np.bincount(labels[true], minlength=n_classes)
    predictions = np.bincount(labels, minlength=n_classes)
    cells = np.bincount(match.result.gt_labels, minlength=n_classes)
    return np.stack([hits, predictions - hits, cells - hits], axis=1).astype(float)


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


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where all values are NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)
