"""PQ, AJI, Dice and F1 at validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from custom.evaluation.matching import ImageResult, match_image
from custom.evaluation.panoptic import (
    aji,
    aji_plus,
    detection_counts,
    dice,
    mean_of_defined,
    panoptic_quality,
    pq_counts,
    precision_recall_f1,
)


@METRICS.register_module()
class CellPanopticMetric(BaseMetric):
    """Metrics at one score threshold, see docs/metrics.md.

    ``PQ, DQ, SQ``: pooled over images, mean over classes (mPQ+), and ``PQ_<class>``;
    ``AJI, AJI_plus, Dice``: without classes, mean over images; ``precision, recall,
    F1`` at mask IoU 0.5, all classes together, and ``F1_<class>``. In 0..1, -1 where a
    metric is not defined, as in :class:`CellCocoMetric`.

    Args:
        score_thr: Predictions from this score on count.
    """

    default_prefix = "cell"

    def __init__(self, score_thr: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.score_thr = score_thr

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the counts of a batch."""
        n_classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            match = match_image(ImageResult.from_sample(sample), self.score_thr)
            table = match.segment_table
            self.results.append(
                {
                    "panoptic": pq_counts(
                        table, match.result.gt_labels, match.segment_labels, n_classes
                    ),
                    "detection": detection_counts(match, n_classes),
                    "overlap": (aji(table), aji_plus(table), dice(match)),
                }
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The metrics of all images."""
        pq, dq, sq = panoptic_quality(sum(r["panoptic"] for r in results))
        counts = sum(r["detection"] for r in results)
        overlap = mean_of_defined(np.array([r["overlap"] for r in results]).T)
        names = ("PQ", "DQ", "SQ", "AJI", "AJI_plus", "Dice")
        means = map(mean_of_defined, (pq, dq, sq))
        metrics = dict(zip(names, (*means, *overlap), strict=True))
        pooled = precision_recall_f1(counts.sum(axis=0))
        metrics.update(zip(("precision", "recall", "F1"), pooled, strict=True))
        f1 = precision_recall_f1(counts)[2]
        for k, name in enumerate(self.dataset_meta["classes"]):
            metrics[f"PQ_{name}"], metrics[f"F1_{name}"] = pq[k], f1[k]
        return {k: -1.0 if np.isnan(v) else float(v) for k, v in metrics.items()}
