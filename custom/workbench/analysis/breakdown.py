"""Where the errors are: by class, score, size and crowding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from custom.structures import LabelMasks
from custom.structures.rle import run_pixels
from custom.workbench.analysis.outcomes import Outcomes

# Two cells are neighbours if a pixel of one is so near to a pixel of the other.
_NEAR = 3


def confusion(
    outcomes: Outcomes, gt_labels: np.ndarray, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """Classes of cells against classes of predictions, for one image.

    Cells and predictions are matched one to one at mask IoU 0.5, greedily by score,
    first within a class and then across (the outcomes true and wrong class). So the
    diagonal holds the true positives of F1 and AP50; an optimal assignment without
    regard to class would show fewer where one cell has predictions of two classes.

    Args:
        outcomes: Of the image.
        gt_labels: (G,) int.
        labels: (P,) int.
        n_classes: C.

    Returns:
        (C + 1, C + 1) int64, rows: class of the cell, columns: class of the
        prediction, last: background. A row adds up to the cells of its class, a column
        to its predictions without those ignored or below the score threshold.
    """
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    matched = np.isin(outcomes.cells, ("true", "wrong class"))
    column = np.full(len(gt_labels), n_classes)
    column[matched] = labels[outcomes.cell_partners[matched]]
    np.add.at(counts, (gt_labels, column), 1)
    alone = ~np.isin(
        outcomes.predictions, ("true", "wrong class", "ignored", "low score")
    )
    np.add.at(counts, (n_classes, labels[alone]), 1)
    return counts


def calibrate(
    scores: np.ndarray, true: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Compare scores with the share of true predictions.

    Expected calibration error, Guo et al., ICML 2017, arXiv:1706.04599, equation 3:
    the mean over predictions of |share of true ones - mean score| of their bin.

    Args:
        scores: (P,) float in 0..1.
        true: (P,) bool.
        bins: Number of bins of equal width; the last one includes 1.

    Returns:
        Counts, mean scores and shares of true predictions, each (bins,), NaN in empty
        bins, and the error, NaN without predictions.
    """
    index = np.minimum((scores * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        score = np.bincount(index, scores, bins) / counts
        share = np.bincount(index, true, bins) / counts
    if not len(scores):
        return counts, score, share, float("nan")
    error = np.nansum(counts * np.abs(share - score)) / len(scores)
    return counts, score, share, float(error)


def recall_in_bins(
    values: np.ndarray, true: np.ndarray, edges: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Recall of cells by a property of theirs.

    Args:
        values: (G,) the property.
        true: (G,) bool, whether the cell was found.
        edges: Lower bounds of the bins; the last one is open.

    Returns:
        Counts and recall, each (len(edges),), NaN in empty bins.
    """
    index = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(index, minlength=len(edges))
    with np.errstate(invalid="ignore"):
        return counts, np.bincount(index, true, len(edges)) / counts


def neighbours(masks: LabelMasks) -> np.ndarray:
    """How many other cells are within three pixels of each cell, or touch it.

    The distance is Euclidean, from pixel centre to pixel centre. Only pixels at the
    rim of a cell are compared.

    Args:
        masks: G masks, each instance once.

    Returns:
        (G,) int64.
    """
    height, width = masks.height, masks.width
    wide = height + 2 * _NEAR
    # Padded, transposed images of instance + 1, as runs go down the columns.
    planes = []
    for owner, start, end in masks.runs():
        image = np.zeros((width + 2 * _NEAR, wide), np.int32)
        x, y = np.divmod(run_pixels(start, end), max(height, 1))
        image[x + _NEAR, y + _NEAR] = np.repeat(owner, end - start) + 1
        planes.append(image.ravel())
    reach = np.arange(-_NEAR, _NEAR + 1)
    offsets = [
        int(dx * wide + dy)
        for dx in reach
        for dy in reach
        if dx * dx + dy * dy <= _NEAR * _NEAR
    ]
    pairs = [np.zeros(0, np.int64)]
    for image in planes:
        inside = np.flatnonzero(image)
        rim = np.zeros(len(inside), bool)
        for step in (1, -1, wide, -wide):
            rim |= image[inside + step] != image[inside]
        rim = inside[rim]
        for other in planes:
            # Within another plane cells may also lie on top of this one.
            source = rim if other is image else inside
            own = image[source].astype(np.int64)
            for offset in offsets:
                near = other[source + offset]
                found = (near > 0) & (near != own)
                pairs.append(np.unique(own[found] * (len(masks) + 1) + near[found]))
    first, _ = np.divmod(np.unique(np.concatenate(pairs)), len(masks) + 1)
    return np.bincount(first, minlength=len(masks) + 1)[1:]
