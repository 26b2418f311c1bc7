"""PQ, AJI, Dice and F1 beside the average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from custom.evaluation.detection import detection_counts, precision_recall_f1
from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import aji, aji_plus, dice, panoptic_quality, pq_counts
from custom.structures.rle import as_rles
from custom.workbench.analysis.image_result import ImageResult
from custom.workbench.analysis.resampling import mean_of_known


@METRICS.register_module()
class CellPanopticMetric(BaseMetric):
    """Figures at one score threshold, see docs/metrics.md.

    ``PQ, DQ, SQ``: pooled over images, mean over classes (mPQ+), and ``PQ_<class>``;
    ``AJI, AJI_plus, Dice``: without classes, mean over images; ``precision, recall,
    F1`` at mask IoU 0.5, all classes together, and ``F1_<class>``. In 0..1, -1 where a
    figure is not defined, as in :class:`CellCocoMetric`.

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
            gt, pred = sample["gt_instances"], sample["pred_instances"]
            ignored = sample.get("ignored_instances", {}).get("masks")
            found = match_image(
                ImageResult(
                    name=str(sample["img_id"]),
                    size=tuple(sample["ori_shape"][:2]),
                    gt=gt["masks"],
                    gt_labels=gt["labels"].cpu().numpy(),
                    labels=pred["labels"].cpu().numpy(),
                    scores=pred["scores"].cpu().numpy().astype(np.float64),
                    boxes=pred["bboxes"].cpu().numpy().astype(np.float64),
                    rles=as_rles(pred["masks"]),
                    ignored=ignored,
                ),
                self.score_thr,
            )
            labels = found.result.labels[found.segment_of]
            table = found.segment_table
            self.results.append(
                {
                    "panoptic": pq_counts(
                        table, found.result.gt_labels, labels, n_classes
                    ),
                    "detection": detection_counts(found, n_classes),
                    "AJI": aji(table),
                    "AJI_plus": aji_plus(table),
                    "Dice": dice(found),
                }
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The figures of all images."""
        pq, dq, sq = panoptic_quality(sum(r["panoptic"] for r in results))
        detection = sum(r["detection"] for r in results)
        precision, recall, f1 = precision_recall_f1(detection.sum(axis=0))
        figures = {
            "PQ": mean_of_known(pq),
            "DQ": mean_of_known(dq),
            "SQ": mean_of_known(sq),
            **{
                key: mean_of_known(np.array([r[key] for r in results]))
                for key in ("AJI", "AJI_plus", "Dice")
            },
            "precision": precision,
            "recall": recall,
            "F1": f1,
        }
        f1_of_class = precision_recall_f1(detection)[2]
        for k, name in enumerate(self.dataset_meta["classes"]):
            figures[f"PQ_{name}"], figures[f"F1_{name}"] = pq[k], f1_of_class[k]
        return {k: -1.0 if np.isnan(v) else float(v) for k, v in figures.items()}
