"""COCO average precision without the cap of 100 detections per image."""

from __future__ import annotations

import contextlib
import gc
import io
from collections.abc import Iterator, Sequence

import numpy as np
from faster_coco_eval import COCO
from faster_coco_eval import mask as fast_mask
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from terminaltables import AsciiTable

from custom.structures.rle import as_rles

_AREAS = ("", "_s", "_m", "_l")  # COCO: all, below 32², up to 96², above


@METRICS.register_module()
class CellCocoMetric(BaseMetric):
    """AP, AP50 and AP75 of boxes and masks, by size and by class.

    The definition is COCO's (https://cocodataset.org/#detection-eval), computed by
    faster-coco-eval, with two values of ``maxDets``: ``max_dets``, and the standard 100
    for the metrics named ``...@100``. Ground truth comes from the data samples; an
    annotation file is not needed. Ignored instances are COCO's crowd regions, of every
    class: a detection without a cell that lies in them by the IoU threshold counts
    neither as true nor as false.

    Args:
        max_dets: Detections per image that count; should be at least what the model
            gives.
        iou_types: ``'bbox'``, ``'segm'`` or both.
    """

    default_prefix = "coco"

    def __init__(
        self,
        max_dets: int = 1000,
        iou_types: Sequence[str] = ("bbox", "segm"),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.max_dets, self.iou_types = max_dets, tuple(iou_types)

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep ground truth and predictions of a batch as RLE."""
        for sample in data_samples:
            gt, pred = sample["gt_instances"], sample["pred_instances"]
            ignored = sample.get("ignored_instances", {})
            self.results.append(
                {
                    "img_id": sample["img_id"],
                    "size": tuple(sample["ori_shape"][:2]),
                    "gt_labels": gt["labels"].cpu().numpy(),
                    "gt_rles": as_rles(gt["masks"]),
                    "ignored_rles": as_rles(ignored.get("masks", ())),
                    "labels": pred["labels"].cpu().numpy(),
                    "scores": pred["scores"].cpu().numpy().astype(np.float64),
                    "boxes": pred["bboxes"].cpu().numpy().astype(np.float64),
                    "rles": as_rles(pred["masks"]) if "masks" in pred else None,
                }
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """All metrics; they are also printed as tables."""
        classes = self.dataset_meta["classes"]
        metrics: dict[str, float] = {}
        for iou_type in self.iou_types:
            scores = average_precision(results, classes, iou_type, self.max_dets)
            metrics.update({f"{iou_type}_{k}": v for k, v in scores.items()})
            print_log(
                f"{iou_type} AP in %, maxDets={self.max_dets} unless said otherwise\n"
                + _table(scores, classes, self.max_dets),
                "current",
            )
        return metrics


def average_precision(
    results: Sequence[dict], classes: Sequence[str], iou_type: str, max_dets: int
) -> dict[str, float]:
    """COCO AP of a list of images.

    Args:
        results: As :meth:`CellCocoMetric.process` keeps them.
        classes: Names of the classes, in the order of the labels.
        iou_type: ``'bbox'`` or ``'segm'``.
        max_dets: Detections per image that count.

    Returns:
        ``mAP, mAP_50, mAP_75``, each also with ``_s, _m, _l`` (mAP only), with
        ``@100``, and with ``_<class>``; in 0..1, -1 without ground truth. ``best_F1``
        and ``best_F1_score``: see :func:`best_f1`.
    """
    # faster-coco-eval reports its progress by print and logging
    with contextlib.redirect_stdout(io.StringIO()), _no_garbage_collection():
        ground_truth = COCO(coco_ground_truth(results, classes))
        detections = coco_detections(results, iou_type)
        if detections:
            predictions = ground_truth.loadRes(detections)
        else:
            predictions = COCO({**ground_truth.dataset, "annotations": []})
        evaluation = COCOeval_faster(ground_truth, predictions, iou_type)
        evaluation.params.maxDets = sorted({100, max_dets})
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU threshold, recall, class, area, maxDets)
    precision = evaluation.eval["precision"]
    index = evaluation.params.maxDets.index(max_dets)

    def mean(part: np.ndarray) -> float:
        part = part[part > -1]
        return float(part.mean()) if part.size else -1.0

    scores = {}
    for suffix, m in (("", index), ("@100", evaluation.params.maxDets.index(100))):
        scores[f"mAP{suffix}"] = mean(precision[:, :, :, 0, m])
        scores[f"mAP_50{suffix}"] = mean(precision[0, :, :, 0, m])
        scores[f"mAP_75{suffix}"] = mean(precision[5, :, :, 0, m])
    for area, name in enumerate(_AREAS[1:], 1):
        scores[f"mAP{name}"] = mean(precision[:, :, :, area, index])
    for k, name in enumerate(classes):
        scores[f"mAP_{name}"] = mean(precision[:, :, k, 0, index])
        scores[f"mAP_50_{name}"] = mean(precision[0, :, k, 0, index])
        scores[f"mAP_75_{name}"] = mean(precision[5, :, k, 0, index])
        for area, suffix in enumerate(_AREAS[1:], 1):
            scores[f"mAP{suffix}_{name}"] = mean(precision[:, :, k, area, index])
    cells = np.zeros(len(classes), np.int64)
    for result in results:
        cells += np.bincount(result["gt_labels"], minlength=len(classes))
    reached = evaluation.eval["scores"][0, :, :, 0, index]
    scores["best_F1"], scores["best_F1_score"] = best_f1(
        precision[0, :, :, 0, index], reached, cells
    )
    return scores


def best_f1(
    precision: np.ndarray, reached: np.ndarray, cells: np.ndarray
) -> tuple[float, float]:
    """The largest F1 of all classes together, and the score threshold that gives it.

    Args:
        precision: (101, C), of each class at COCO's recalls 0, 0.01, ..., 1.
        reached: (101, C), the score at which the recall is reached; 0 if it is not, -1
            for a class without cells.
        cells: (C,) numbers of cells.

    Returns:
        F1 and the threshold, both 0 without a true positive.
    """
    recall = np.linspace(0, 1, len(reached))
    thresholds = np.unique(reached[reached > 0])[:, None, None]
    # Of each threshold and class, the last recall that is reached at it.
    last = (reached >= thresholds).sum(axis=1) - 1
    hits = np.where(last >= 0, cells * recall[last], 0)
    predicted = hits / np.where(hits > 0, precision[last, range(len(cells))], 1)
    f1 = 2 * hits.sum(axis=1) / (predicted.sum(axis=1) + cells.sum())
    if not f1.size or f1.max() == 0:
        return 0.0, 0.0
    return float(f1.max()), float(thresholds[f1.argmax()].item())


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the collector, which would go through all annotations again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def coco_ground_truth(results: Sequence[dict], classes: Sequence[str]) -> dict:
    """Ground truth as a COCO data set; category ids are label + 1.

    Args:
        results: As :meth:`CellCocoMetric.process` keeps them; ``ignored_rles`` may be
            missing.
        classes: Names of the classes.
    """
    annotations: list[dict] = []

    def add(result: dict, labels: Sequence[int], rles: list[dict], crowd: int) -> None:
        # One call per image; pycocotools' own area() fails above 255 masks.
        boxes = fast_mask.toBbox(rles).tolist() if rles else []
        areas = fast_mask.area(rles).tolist() if rles else []
        # The pixels of all ignored regions, in each one's box: a mask that lies in two
        # of them is ignored as one in a single region is.
        if crowd:
            rles = [fast_mask.merge(rles)] * len(rles)
        for label, rle, box, area in zip(labels, rles, boxes, areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": result["img_id"],
                    "category_id": int(label) + 1,
                    "segmentation": rle,
                    "bbox": box,
                    "area": area,
                    "iscrowd": crowd,
                }
            )

    for result in results:
        add(result, result["gt_labels"], result["gt_rles"], crowd=0)
        if ignored := result.get("ignored_rles"):
            for label in range(len(classes)):
                add(result, [label] * len(ignored), ignored, crowd=1)
    return {
        "images": [
            {"id": r["img_id"], "height": r["size"][0], "width": r["size"][1]}
            for r in results
        ],
        "categories": [{"id": i, "name": c} for i, c in enumerate(classes, 1)],
        "annotations": annotations,
    }


def coco_detections(results: Sequence[dict], iou_type: str) -> list[dict]:
    """Predictions as a COCO result list, xywh boxes or masks."""
    detections = []
    for result in results:
        columns = (result[key].tolist() for key in ("labels", "scores", "boxes"))
        for i, (label, score, box) in enumerate(zip(*columns, strict=True)):
            x1, y1, x2, y2 = box
            # A mask's size is the mask's area: with a box beside it loadRes would
            # take the box's.
            where = (
                {"bbox": [x1, y1, x2 - x1, y2 - y1]}
                if iou_type == "bbox"
                else {"segmentation": result["rles"][i]}
            )
            detections.append(
                {
                    "image_id": result["img_id"],
                    "category_id": label + 1,
                    "score": score,
                    **where,
                }
            )
    return detections


def _table(scores: dict[str, float], classes: Sequence[str], max_dets: int) -> str:
    columns = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")

    def cell(key: str) -> str:
        value = scores.get(key, -1.0)
        return f"{100 * value:.1f}" if value >= 0 else "-"

    rows = [["", *columns]]
    rows += [[c, *(cell(f"{column}_{c}") for column in columns)] for c in classes]
    rows.append([f"all, maxDets={max_dets}", *map(cell, columns)])
    rows.append(["all, maxDets=100", *(cell(f"{column}@100") for column in columns)])
    return AsciiTable(rows).table
