"""Scores of one run, small enough to be committed and to be resampled by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from custom.evaluation.matching import ImageResult, match_image

# Bins of the score, equal steps of its root: most predictions have a low score.
BINS = 64
_RECALLS = np.linspace(0, 1, 101)  # COCO's recThrs


@METRICS.register_module()
class GroupScores(BaseMetric):
    """Counts of each group of images, from which AP50 follows without predictions.

    Args:
        groups: Group of each image, by name.
    """

    default_prefix = "groups"

    def __init__(self, groups: Mapping[str, str], **kwargs) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.counts: dict[str, list] = {}

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Match the predictions of a batch at mask IoU 0.5 and count them."""
        n_classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            result = ImageResult.from_sample(sample)
            matches = match_image(result, 0.5)
            bins = np.minimum(BINS * np.sqrt(result.scores), BINS - 1).astype(int)
            seen = np.zeros((n_classes, BINS), int)
            true = np.zeros_like(seen)
            keep = ~matches.ignored
            np.add.at(seen, (result.labels[keep], bins[keep]), 1)
            hit = matches.match >= 0
            np.add.at(true, (result.labels[hit], bins[hit]), 1)
            cells = np.bincount(result.gt_labels, minlength=n_classes)
            self.results.append((self.groups[result.name], cells, seen, true))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The counts are left in ``counts``; as metrics there are none."""
        sums: dict[str, list[np.ndarray]] = {}
        for group, *counts in results:
            before = sums.get(group, [0, 0, 0])
            sums[group] = [a + b for a, b in zip(before, counts, strict=True)]
        self.counts = {
            group: [cells.tolist(), _sparse(seen), _sparse(true)]
            for group, (cells, seen, true) in sorted(sums.items())
        }
        return {}


def _sparse(counts: np.ndarray) -> list[list[int]]:
    """For each class bin, count, bin, count, ... where the count is not zero."""
    return [
        [int(v) for b in np.flatnonzero(row) for v in (b, row[b])] for row in counts
    ]


def dense(counts: Sequence[list]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The counts of G groups, as :class:`GroupScores` leaves them, as arrays.

    Returns:
        Cells (G, C), predictions and true positives (G, C, BINS), all int64.
    """
    cells = np.array([group[0] for group in counts])
    arrays = np.zeros((2, *cells.shape, BINS), np.int64)
    for g, group in enumerate(counts):
        for part, rows in zip(arrays, group[1:], strict=True):
            for c, row in enumerate(rows):
                part[g, c, row[::2]] = row[1::2]
    return cells, arrays[0], arrays[1]


def average_precision(
    cells: np.ndarray, seen: np.ndarray, true: np.ndarray
) -> np.ndarray:
    """AP at COCO's 101 recalls from counts by score.

    Predictions of one bin count together, so the value differs a little from that of
    exact scores.

    Args:
        cells: (...,) numbers of cells.
        seen: (..., BINS) predictions.
        true: (..., BINS) true positives among them.

    Returns:
        (...,) float64, NaN without cells.
    """
    hits = np.cumsum(true[..., ::-1], axis=-1)
    total = np.cumsum(seen[..., ::-1], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits / total)
        recall = hits / cells[..., None]
    precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    precision = np.concatenate([precision, np.zeros_like(precision[..., :1])], axis=-1)
    # The first bin that reaches each recall.
    index = (recall[..., None, :] < _RECALLS[:, None] - 1e-12).sum(axis=-1)
    values = np.take_along_axis(precision, index, axis=-1).mean(axis=-1)
    return np.where(cells > 0, values, np.nan)
