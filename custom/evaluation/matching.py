"""Match the predictions of an image with its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom.evaluation.iou_table import IoUTable, iou_table, paint
from custom.evaluation.predictions import ImagePredictions
from custom.structures import LabelMasks

IOU_THR = 0.5


@dataclass
class ImageResult(ImagePredictions):
    """The P predictions of one image with its G cells.

    Attributes:
        gt: G masks.
        gt_labels: (G,) int64, from 0.
        ignored: Unlabelled regions, such as MoNuSAC's "Ambiguous", of any class; None
            for none. A prediction without a match and with half of its pixels or more
            in them counts neither as true nor as false.
        path: The image file; empty where it is not known.
    """

    gt: LabelMasks
    gt_labels: np.ndarray
    ignored: LabelMasks | None = None
    path: str = ""

    @classmethod
    def from_sample(cls, sample: dict) -> ImageResult:
        """The data sample that the evaluator passes to metrics."""
        truth = sample["gt_instances"]
        return cls(
            **vars(ImagePredictions.from_sample(sample)),
            gt=truth["masks"],
            gt_labels=truth["labels"].cpu().numpy(),
            ignored=sample.get("ignored_instances", {}).get("masks"),
        )

    def coco_row(self, img_id: int) -> dict:
        """The image as ``average_precision`` takes it."""
        return {
            "img_id": img_id,
            "size": self.size,
            "gt_labels": self.gt_labels,
            "gt_rles": self.gt.to_rle(),
            "ignored_rles": [] if self.ignored is None else self.ignored.to_rle(),
            "labels": self.labels,
            "scores": self.scores,
            "boxes": self.boxes,
            "rles": self.rles,
        }


@dataclass
class ImageMatch:
    """The predictions of one image, matched with its cells.

    Attributes:
        result: The image.
        table: All cells against all predictions, as they are, overlaps included.
        match: (P,) int64, the cell of its class that a prediction is matched with at
            mask IoU 0.5, -1 for none: COCO's matching over all scores. It is greedy by
            score, so a score threshold does not change the matches above it.
        ignored: (P,) bool, without a match and with half of the pixels or more in
            ignored regions.
        confident: (P,) bool, from the score threshold on.
        used: (P,) bool, confident and not ignored.
        segments: The used predictions as segments that do not overlap, see
            :func:`custom.evaluation.iou_table.paint`.
        segment_of: (S,) int64, the prediction of each segment.
        segment_table: All cells against the segments.
    """

    result: ImageResult
    table: IoUTable
    match: np.ndarray
    ignored: np.ndarray
    confident: np.ndarray
    used: np.ndarray
    segments: LabelMasks
    segment_of: np.ndarray
    segment_table: IoUTable

    @property
    def segment_labels(self) -> np.ndarray:
        """(S,) int64, the class of each segment."""
        return self.result.labels[self.segment_of]


def match_image(result: ImageResult, score_thr: float) -> ImageMatch:
    """Match the predictions of an image with its cells.

    Args:
        result: The image.
        score_thr: Predictions from this score on are used.
    """
    table = iou_table(result.gt, result.rles)
    same_class = result.gt_labels[table.gt] == result.labels[table.pred]
    match = greedy_match(table, same_class & (table.iou >= IOU_THR), result.scores)
    ignored = (match < 0) & (2 * _ignored_pixels(result) >= table.pred_areas)
    ignored &= table.pred_areas > 0
    confident = result.scores >= score_thr
    used = confident & ~ignored
    index = np.flatnonzero(used)
    segments = paint([result.rles[i] for i in index], result.scores[index], result.size)
    return ImageMatch(
        result,
        table,
        match,
        ignored,
        confident,
        used,
        segments,
        index[segments.ids - 1],
        iou_table(result.gt, segments),
    )


def greedy_match(table: IoUTable, keep: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Match one to one as COCO does.

    The predictions choose in the order of their scores, each the cell with the largest
    IoU that is left, of equal ones the last
    (https://github.com/cocodataset/cocoapi, ``COCOeval.evaluateImg``).

    Args:
        table: All pairs.
        keep: (K,) bool, the pairs that may match.
        scores: (P,) float.

    Returns:
        (P,) int64, the cell of each prediction, -1 for none.
    """
    match = np.full(len(scores), -1)
    turn = np.empty(len(scores), np.int64)
    turn[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    pairs = np.flatnonzero(keep)
    gt, pred = table.gt[pairs], table.pred[pairs]
    order = np.lexsort((-gt, -table.iou[pairs], turn[pred]))
    taken: set[int] = set()
    for g, p in zip(gt[order].tolist(), pred[order].tolist(), strict=True):
        if match[p] < 0 and g not in taken:
            match[p] = g
            taken.add(g)
    return match


def _ignored_pixels(result: ImageResult) -> np.ndarray:
    """(P,) int64, how many pixels of each prediction lie in ignored regions."""
    pixels = np.zeros(len(result.rles), np.int64)
    if result.ignored is not None and len(result.ignored):
        # One mask of all regions: they may overlap, or meet within a prediction.
        region = result.ignored.foreground().astype(np.int32)[None]
        table = iou_table(LabelMasks(region, np.array([0]), np.array([1])), result.rles)
        pixels[table.pred] = table.pixels
    return pixels
