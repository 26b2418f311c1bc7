"""Where the errors are: by class, score, size and crowding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

from custom.structures import LabelMasks
from custom.structures.rle import run_pixels
from custom.workbench.analysis.outcomes import Outcomes

# Pixels between two cells that are neighbours.
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

    The distance is Euclidean, from pixel centre to pixel centre. Within a plane only
    the pixels at the rims of cells are compared; cells of different planes may lie on
    top of each other.

    Args:
        masks: G masks, each instance once.

    Returns:
        (G,) int64.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    pixels, owners = [], []
    for owner, start, end in masks.runs():
        x, y = np.divmod(run_pixels(start, end), max(masks.height, 1))
        image = np.full((masks.width + 2, masks.height + 2), -1)
        image[x + 1, y + 1] = cell = np.repeat(owner, end - start)
        rim = np.zeros(len(cell), bool)
        for dx, dy in ((0, 1), (2, 1), (1, 0), (1, 2)):
            rim |= image[x + dx, y + dy] != cell
        pixels.append(np.stack([x, y], axis=1))
        owners.append(cell)
        near = cKDTree(pixels[-1][rim]).query_pairs(_NEAR, output_type="ndarray")
        pairs.append(cell[rim][near])
    for a, b in combinations(range(len(pixels)), 2):
        near = cKDTree(pixels[a]).sparse_distance_matrix(
            cKDTree(pixels[b]), _NEAR, output_type="ndarray"
        )
        pairs.append(np.stack([owners[a][near["i"]], owners[b][near["j"]]], axis=1))
    pairs = np.sort(np.concatenate(pairs), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return np.bincount(pairs.ravel(), minlength=len(masks))
