"""Intersections of two sets of masks, without a loop over pairs of bitmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix

from custom.structures import LabelMasks
from custom.structures.rle import decode_runs, run_pixels


@dataclass(frozen=True)
class IoUTable:
    """The pairs of a cell and a prediction that share pixels; K of them.

    Attributes:
        gt: (K,) int64, index of the cell; pairs are sorted by it, then by ``pred``.
        pred: (K,) int64, index of the prediction.
        pixels: (K,) int64, pixels that the two share, above 0.
        gt_areas: (G,) int64, pixels of each cell.
        pred_areas: (P,) int64, pixels of each prediction.
    """

    gt: np.ndarray
    pred: np.ndarray
    pixels: np.ndarray
    gt_areas: np.ndarray
    pred_areas: np.ndarray

    @property
    def unions(self) -> np.ndarray:
        """(K,) int64, pixels of either."""
        return self.gt_areas[self.gt] + self.pred_areas[self.pred] - self.pixels

    @property
    def iou(self) -> np.ndarray:
        """(K,) float64, intersection over union."""
        return self.pixels / self.unions

    @property
    def gt_share(self) -> np.ndarray:
        """(K,) float64, the part of the cell that the prediction covers."""
        return self.pixels / self.gt_areas[self.gt]

    @property
    def pred_share(self) -> np.ndarray:
        """(K,) float64, the part of the prediction that lies in the cell."""
        return self.pixels / self.pred_areas[self.pred]


def iou_table(gt: LabelMasks, pred: LabelMasks | Sequence[dict]) -> IoUTable:
    """Intersect all cells of an image with all predictions.

    Exact, also where masks of a set overlap each other. Label images are read once;
    from there on the work is on runs of pixels, and time and memory follow the runs
    that meet, not the number of pairs or of pixels.

    Args:
        gt: G masks, each instance once.
        pred: P masks, each instance once, or P COCO RLE dicts (bytes).
    """
    pred_areas = np.zeros(len(pred), np.int64)
    gt_areas = np.zeros(len(gt), np.int64)
    pairs = []
    planes = list(pred.runs()) if isinstance(pred, LabelMasks) else [decode_runs(pred)]
    for owner, start, end in planes:
        pred_areas += _sums(owner, end - start, len(pred))
    for gt_owner, gt_start, gt_end in gt.runs():
        gt_areas += _sums(gt_owner, gt_end - gt_start, len(gt))
        for owner, start, end in planes:
            # The runs of a plane of ``gt`` are disjoint and sorted: those that meet
            # a run of ``pred`` follow each other.
            first = np.searchsorted(gt_end, start, side="right")
            count = np.searchsorted(gt_start, end, side="left") - first
            run = np.repeat(np.arange(len(start)), count)
            gt_run = run_pixels(first, first + count)
            shared = np.minimum(end[run], gt_end[gt_run])
            shared -= np.maximum(start[run], gt_start[gt_run])
            pairs.append((gt_owner[gt_run], owner[run], shared))
    rows, columns, pixels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    table = coo_matrix((pixels, (rows, columns)), shape=(len(gt), len(pred))).tocsr()
    table.sort_indices()
    table = table.tocoo()
    return IoUTable(
        table.row.astype(np.int64),
        table.col.astype(np.int64),
        table.data,
        gt_areas,
        pred_areas,
    )


def paint(
    rles: Sequence[dict], scores: np.ndarray, size: tuple[int, int]
) -> LabelMasks:
    """Turn predictions that may overlap into segments that do not.

    PQ and AJI are defined for such segments. The rule is that of Panoptic FPN
    (Kirillov et al., CVPR 2019, arXiv:1901.02446) and Detectron2's
    ``combine_semantic_and_instance_outputs``, with its threshold of 0.5: the higher
    score keeps a shared pixel, and a prediction of which others have taken more than
    half is left out.

    Args:
        rles: P COCO RLE dicts (bytes).
        scores: (P,) float; of equal ones the first wins.
        size: (H, W) of the image.

    Returns:
        The segments that are left, in the order of ``rles``; the id of one is the
        index of its prediction + 1.
    """
    height, width = size
    owner, start, end = decode_runs(rles)
    pixel = run_pixels(start, end)
    bounds = np.cumsum(_sums(owner, end - start, len(rles)))
    canvas = np.zeros(height * width, np.int32)
    seen = []
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        mask_pixels = pixel[bounds[i - 1] if i else 0 : bounds[i]]
        free = mask_pixels[canvas[mask_pixels] == 0]
        if len(free) and 2 * len(free) >= len(mask_pixels):
            canvas[free] = i + 1
            seen.append(i)
    plane = canvas.reshape(width, height).T
    segments = np.sort(np.array(seen, np.int64))
    return LabelMasks(plane[None], np.zeros(len(segments), np.int64), segments + 1)


def _sums(owner: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(owner, values, count).astype(np.int64)
