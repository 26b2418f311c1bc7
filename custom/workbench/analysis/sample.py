"""The matched images of a run, from which metrics of any part of them follow.

Each image is matched once. A weight for each image says whether it counts, and every
metric is a function of the weights: of all images, of one, or of all but one patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from custom.evaluation.matching import ImageMatch
from custom.evaluation.panoptic import (
    aji,
    detection_counts,
    panoptic_quality,
    pq_counts,
    precision_recall_f1,
)
from custom.workbench.analysis.statistics import Estimate, jackknife

RECALLS = np.linspace(0, 1, 101)  # COCO's recThrs
# With more groups than this, a group of the jackknife is several of them together.
_MAX_GROUPS = 200


@dataclass
class Sample:
    """The counts of a run's images; I images, C classes, D predictions.

    Attributes:
        image: (D,) int64, the image of each prediction.
        label: (D,) int64, its class.
        score: (D,) float64, its score; descending.
        true: (D,) bool, whether it is matched at mask IoU 0.5.
        cells: (I, C) int64, the cells of each class.
        panoptic: (I, C, 4) float64, see :func:`custom.evaluation.panoptic.pq_counts`.
        detection: (I, C, 3) float64, see
            :func:`custom.evaluation.panoptic.detection_counts`.
        aji: (I,) float64, NaN where it is not defined.

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
    def of(cls, matches: Sequence[ImageMatch], n_classes: int, max_dets: int) -> Sample:
        """Gather matched images; ``max_dets`` predictions per image and class count."""
        parts = []
        for i, match in enumerate(matches):
            labels, scores = match.result.labels, match.result.scores
            # COCO takes the best of each class, and drops ignored ones after that.
            rank = pd.Series(-scores).groupby(labels).rank(method="first")
            keep = (rank.to_numpy() <= max_dets) & ~match.ignored
            image = np.full(keep.sum(), i)
            parts.append((image, labels[keep], scores[keep], match.match[keep] >= 0))
        image, label, score, true = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(-score, kind="stable")
        truth = [m.result.gt_labels for m in matches]
        panoptic = [
            pq_counts(m.segment_table, labels, m.segment_labels, n_classes)
            for m, labels in zip(matches, truth, strict=True)
        ]
        return cls(
            *(part[order] for part in (image, label, score, true)),
            np.stack([np.bincount(labels, minlength=n_classes) for labels in truth]),
            np.stack(panoptic),
            np.stack([detection_counts(m, n_classes) for m in matches]),
            np.array([aji(m.segment_table) for m in matches]),
        )

    def metrics(self, weights: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """``AP50, PQ, AJI, F1`` and ``AP50 <class>, PQ <class>`` of a part.

        AP50 and PQ are means over the classes that all images together have, so that
        every part estimates the same quantity: where a part lacks such a class they
        are NaN, as any metric that is not defined.

        Args:
            weights: (I,) how often each image counts.
            classes: C names.
        """
        curves = [self.curve(k, weights)[0] for k in range(len(classes))]
        ap50 = np.mean(curves, axis=1)
        pq = panoptic_quality(np.tensordot(weights, self.panoptic, 1))[0]
        defined = ~np.isnan(self.aji)
        share = weights[defined] / max(weights[defined].sum(), 1)
        metrics = {
            "AP50": _mean_or_nan(ap50[self.cells.any(axis=0)]),
            "PQ": _mean_or_nan(pq[self.panoptic[..., :3].any(axis=(0, 2))]),
            "AJI": float(share @ self.aji[defined]) if share.any() else np.nan,
            "F1": float(precision_recall_f1(weights @ self.detection.sum(axis=1))[2]),
        }
        for k, name in enumerate(classes):
            metrics[f"AP50 {name}"] = float(ap50[k])
            metrics[f"PQ {name}"] = float(pq[k])
        return metrics

    def sizes(self, classes: Sequence[str]) -> dict[str, np.ndarray]:
        """(I, K) what each image contributes to each of :meth:`metrics`.

        K is 1, or the number of classes that the metric averages.
        """
        in_class = self.panoptic[..., :3].sum(axis=2)
        sizes = {
            "AP50": self.cells[:, self.cells.any(axis=0)],
            "PQ": in_class[:, in_class.any(axis=0)],
            "AJI": ~np.isnan(self.aji)[:, None],
            "F1": self.detection.sum(axis=(1, 2))[:, None],
        }
        for k, name in enumerate(classes):
            sizes[f"AP50 {name}"] = self.cells[:, k : k + 1]
            sizes[f"PQ {name}"] = in_class[:, k : k + 1]
        return sizes

    def curve(self, k: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision of class ``k`` against recall, as COCO interpolates it.

        Predictions of one score keep their order; those of an image of weight 2 count
        together.

        Args:
            k: The class.
            weights: (I,) how often each image counts.

        Returns:
            Precision at recall 0, 0.01, ..., 1, whose mean is AP50, and the score that
            reaches it, each (101,) float64; NaN without a cell, or where no score does.
        """
        total = weights @ self.cells[:, k]
        if total == 0:
            return np.full(101, np.nan), np.full(101, np.nan)
        of_class = np.flatnonzero(self.label == k)
        weight = weights[self.image[of_class]]
        # Precision is largest at a true positive; nothing between them counts.
        at = np.flatnonzero(self.true[of_class] & (weight > 0))
        seen, hits = weight.cumsum()[at], weight[at].cumsum()
        precision = np.maximum.accumulate((hits / seen)[::-1])[::-1]
        first = np.searchsorted(hits / total, RECALLS, side="left")
        return (
            np.append(precision, 0)[first],
            np.append(self.score[of_class[at]], np.nan)[first],
        )


def estimates(
    samples: Sequence[Sample], classes: Sequence[str], groups: Sequence[str]
) -> dict[str, Estimate]:
    """The metrics of :meth:`Sample.metrics` with intervals over groups of images.

    Args:
        samples: One run, or two on the same images: then the metrics are differences,
            second minus first, with p-values.
        classes: C names.
        groups: The group of each image, such as its patient.
    """
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    if index.max() >= _MAX_GROUPS:
        blocks = np.random.default_rng(0).permutation(index.max() + 1) % _MAX_GROUPS
        index = blocks[index]
    member = np.arange(index.max() + 1)[:, None] == index

    def values(weights: np.ndarray) -> dict[str, float]:
        rows = [sample.metrics(weights, classes) for sample in samples]
        if len(rows) == 1:
            return rows[0]
        return {key: rows[1][key] - rows[0][key] for key in rows[0]}

    full = values(np.ones(len(index)))
    left_out = [values(1.0 - row) for row in member]
    sizes = [sample.sizes(classes) for sample in samples]
    # Where one run has segments of a class that neither the cells nor the other run
    # have, its PQ averages one class more; the smaller set has the intervals.
    return {
        key: jackknife(
            value,
            np.array([row[key] for row in left_out]),
            member
            @ min((size[key] for size in sizes), key=lambda groups: groups.shape[1]),
            score=len(samples) == 1,
        )
        for key, value in full.items()
    }


def _mean_or_nan(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
