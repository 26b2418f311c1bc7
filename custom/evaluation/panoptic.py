"""Figures of segments that do not overlap: PQ, AJI, Dice."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from custom.evaluation.iou_table import IoUTable
from custom.evaluation.matching import IOU_THR, ImageMatch, greedy_match


def pq_counts(
    table: IoUTable, gt_labels: np.ndarray, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """What PQ is made of, for one image.

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
    of_pair = keep & (match[table.pred] == table.gt)
    cells = np.bincount(gt_labels, minlength=n_classes)
    hits = np.bincount(labels[true], minlength=n_classes)
    made = np.bincount(labels, minlength=n_classes)
    quality = np.bincount(labels[table.pred[of_pair]], iou[of_pair], n_classes)
    return np.stack([hits, made - hits, cells - hits, quality], axis=1)


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
    iou = np.zeros((len(table.gt_areas), len(table.pred_areas)))
    place = np.full(iou.shape, -1)
    iou[table.gt, table.pred] = table.iou
    place[table.gt, table.pred] = np.arange(len(table.gt))
    chosen = place[linear_sum_assignment(iou, maximize=True)]
    return _aggregate(table, chosen[chosen >= 0])


def _aggregate(table: IoUTable, pairs: np.ndarray) -> float:
    """Sum of intersections over sum of unions, with what is in no pair."""
    alone_gt, alone_pred = table.gt_areas.copy(), table.pred_areas.copy()
    alone_gt[table.gt[pairs]] = alone_pred[table.pred[pairs]] = 0
    union = table.unions[pairs].sum() + alone_gt.sum() + alone_pred.sum()
    return float(table.pixels[pairs].sum() / union) if union else float("nan")


def dice(found: ImageMatch) -> float:
    """Dice of the pixels of all cells and of all segments: 2 |A B| / (|A| + |B|).

    Dice, Ecology 26, 297 (1945).

    Returns:
        0..1, NaN where there is neither cell nor segment.
    """
    truth = found.result.gt.foreground()
    segments = found.segments.foreground()
    total = np.count_nonzero(truth) + np.count_nonzero(segments)
    both = np.count_nonzero(truth & segments)
    return 2 * both / total if total else float("nan")
