"""Metrics of dense images against other libraries and what one writes by hand.

* Intersections of 1,000 cells and 1,000 segments on 2000², both label images: one
  ``np.bincount`` of pairs of labels, which needs masks that do not overlap.
* IoU of predictions that overlap each other, as RLE: pycocotools.
* AJI+ and centroid pairs of 3,000 cells: ``linear_sum_assignment`` of all pairs, as
  HoVer-Net does.
* AP50 of parts of the images, as an interval needs it: faster-coco-eval on each part,
  against weights of images matched once; 30 images with 300 cells of 4 classes. The
  same weights on matched images: a plain cumulated sum for each part.

Example::

    python benchmarks/bench_metrics.py
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import numpy as np
from bench_eval import CLASSES, MAX_DETS
from bench_eval import make as make_images
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.iou_table import iou_table
from custom.evaluation.matching import ImageMatch, ImageResult, match_image
from custom.evaluation.panoptic import aji_plus
from custom.structures import LabelMasks
from custom.workbench.analysis.published import _centroids, centroid_counts
from custom.workbench.analysis.sample import RECALLS, Sample

PARTS = 20
NAMES = [f"class{i}" for i in range(1, CLASSES + 1)]


def cells(count: int, side: int, seed: int) -> LabelMasks:
    """Round cells on a shaken grid; neighbours touch."""
    rng = np.random.default_rng(seed)
    per_row = int(np.ceil(np.sqrt(count)))
    step = side / per_row
    plane = np.zeros((side, side), np.int32)
    for i in range(count):
        row, column = divmod(i, per_row)
        y, x = (np.array([row, column]) + 0.5) * step + rng.normal(0, step / 10, 2)
        radius = step * rng.uniform(0.35, 0.6)
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        window = plane[top : int(y + radius) + 2, left : int(x + radius) + 2]
        yy, xx = np.mgrid[: window.shape[0], : window.shape[1]]
        inside = (yy + top - y) ** 2 + (xx + left - x) ** 2 < radius**2
        window[inside & (window == 0)] = i + 1
    return LabelMasks.from_label_images([plane])[0]


def pairs_of_labels(pair: tuple[LabelMasks, LabelMasks]) -> np.ndarray:
    """(G, P) shared pixels of label images, one pass over the pixels."""
    gt, pred = pair
    width = int(pred.ids.max()) + 1
    keys = gt.planes[0].astype(np.int64) * width + pred.planes[0]
    counts = np.bincount(keys.ravel(), minlength=(int(gt.ids.max()) + 1) * width)
    return counts.reshape(-1, width)[np.ix_(gt.ids, pred.ids)]


def one_pass(pair: tuple[LabelMasks, LabelMasks]) -> np.ndarray:
    """(G, P) shared pixels, as the project has them."""
    table = iou_table(*pair)
    full = np.zeros((len(pair[0]), len(pair[1])), np.int64)
    full[table.gt, table.pred] = table.pixels
    return full


def make_rles() -> tuple[LabelMasks, list[dict]]:
    """1,000 cells, and 1,000 predictions in two layers that overlap."""
    layers = [cells(500, 2000, seed) for seed in (2, 3)]
    return cells(1000, 2000, 1), [rle for masks in layers for rle in masks.to_rle()]


def stock_iou(data: tuple[LabelMasks, list[dict]]) -> np.ndarray:
    """(G, P) IoU by pycocotools."""
    gt = data[0].to_rle()
    return coco_mask.iou(data[1], gt, [0] * len(gt)).T


def table_iou(data: tuple[LabelMasks, list[dict]]) -> np.ndarray:
    """(G, P) IoU by the table."""
    table = iou_table(*data)
    full = np.zeros((len(data[0]), len(data[1])))
    full[table.gt, table.pred] = table.iou
    return full


def make_match() -> ImageMatch:
    """3,000 cells and 3,000 segments of the same image."""
    gt, pred = cells(3000, 3400, 1), cells(3000, 3400, 2)
    zeros = np.zeros(len(pred), np.int64)
    boxes = np.zeros((len(pred), 4))
    result = ImageResult(
        1, "image", (3400, 3400), zeros, zeros + 0.9, boxes, pred.to_rle(),
        gt, np.zeros(len(gt), np.int64),
    )  # fmt: skip
    return match_image(result, 0.5)


def dense_aji_plus(match: ImageMatch) -> float:
    """AJI+ by the assignment of all pairs."""
    table = match.segment_table
    iou = np.zeros((len(table.gt_areas), len(table.pred_areas)))
    place = np.full(iou.shape, -1)
    iou[table.gt, table.pred] = table.iou
    place[table.gt, table.pred] = np.arange(len(table.gt))
    chosen = place[linear_sum_assignment(iou, maximize=True)]
    chosen = chosen[chosen >= 0]
    shared = table.pixels[chosen].sum()
    return shared / (table.gt_areas.sum() + table.pred_areas.sum() - shared)


def dense_centroids(match: ImageMatch) -> int:
    """Pairs of centroids by the assignment of all pairs."""
    distance = cdist(_centroids(match.result.gt), _centroids(match.segments))
    pairs = linear_sum_assignment(np.minimum(distance, 12))
    return int(np.count_nonzero(distance[pairs] <= 12))


def make_parts() -> tuple[list[dict], list[ImageResult], np.ndarray]:
    """Images in both forms, and the weights of parts that lack one image each."""
    rows = make_images()
    keys = ("img_id", "size", "gt_labels", "labels", "scores", "boxes", "rles")
    results = [
        ImageResult(
            name=str(row["img_id"]),
            gt=LabelMasks.from_rles(row["gt_rles"], row["size"]),
            **{key: row[key] for key in keys},
        )
        for row in rows
    ]
    return rows, results, 1 - np.eye(len(rows))[:PARTS]


def stock_parts(data: tuple) -> np.ndarray:
    """AP50 of each part by faster-coco-eval."""
    rows, _, weights = data
    values = []
    for draw in weights.astype(int):
        copies = [row for row, n in zip(rows, draw, strict=True) for _ in range(n)]
        drawn = [{**row, "img_id": i} for i, row in enumerate(copies)]
        values.append(average_precision(drawn, NAMES, "segm", MAX_DETS)["mAP_50"])
    return np.array(values)


def our_parts(data: tuple) -> np.ndarray:
    """AP50 of each part, matching included."""
    _, results, weights = data
    matches = [match_image(result, score_thr=0.5) for result in results]
    sample = Sample.of(matches, CLASSES, MAX_DETS)
    return np.array([sample.metrics(row, NAMES)["AP50"] for row in weights])


def cumulated_parts(data: tuple[Sample, np.ndarray]) -> np.ndarray:
    """(P, C) AP50 of parts by precision and recall at each prediction."""
    sample, weights = data
    values = []
    for k, row in ((k, row) for row in weights for k in range(CLASSES)):
        weight, true = row[sample.image], sample.true
        weight, true = weight[sample.label == k], true[sample.label == k]
        hits, seen = np.cumsum(weight * true), np.cumsum(weight)
        precision = hits / np.maximum(seen, 1e-9)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(hits / (row @ sample.cells[:, k]), RECALLS)
        values.append(np.append(precision, 0)[at].mean())
    return np.array(values).reshape(-1, CLASSES)


def make_sample() -> tuple[Sample, np.ndarray]:
    """Matched images and the weights of parts."""
    _, results, weights = make_parts()
    matches = [match_image(result, score_thr=0.5) for result in results]
    return Sample.of(matches, CLASSES, MAX_DETS), np.tile(weights, (10, 1))


def small_images(data: tuple) -> tuple:
    """The first rows only, for warming up."""
    rows, results, weights = data
    return rows[:1], results[:1], weights[:1, :1]


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to 1e-6."""
    return bool(np.allclose(a, b, rtol=0, atol=1e-6))


def cases(root) -> list[Case]:
    """All of them, on drawn images."""
    return [
        Case(
            "intersections, 1,000 x 1,000 cells on 2000²",
            lambda: (cells(1000, 2000, 1), cells(1000, 2000, 2)),
            pairs_of_labels,
            one_pass,
            1000,
            against="by hand: bincount",
            same=np.array_equal,
        ),
        Case(
            "IoU, 1,000 cells x 1,000 RLE that overlap, 2000²",
            make_rles,
            stock_iou,
            table_iou,
            1000,
            against="pycocotools",
            same=close,
        ),
        Case(
            "AJI+, 3,000 x 3,000 cells",
            make_match,
            dense_aji_plus,
            lambda match: aji_plus(match.segment_table),
            3000,
            against="by hand: all pairs",
            repeats=1,
            same=close,
        ),
        Case(
            "centroid pairs, 3,000 x 3,000 cells",
            make_match,
            dense_centroids,
            lambda match: int(centroid_counts(match, 1)[0, 0]),
            3000,
            against="by hand: all pairs",
            repeats=1,
            same=close,
        ),
        Case(
            f"AP50 of {PARTS} parts of 30 images",
            make_parts,
            stock_parts,
            our_parts,
            9000,
            against="faster-coco-eval",
            repeats=1,
            same=close,
            warm_up=small_images,
        ),
        Case(
            f"AP50 of {10 * PARTS} parts of 30 matched images",
            make_sample,
            cumulated_parts,
            lambda data: np.array(
                [
                    [data[0].curve(k, row)[0].mean() for k in range(CLASSES)]
                    for row in data[1]
                ]
            ),
            9000,
            against="by hand: plain cumulated sums",
            same=close,
        ),
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
