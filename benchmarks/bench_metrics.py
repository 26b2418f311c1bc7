"""Figures of dense images: pair by pair against one pass, and resampling.

* Intersections of cells and segments, both label images: a loop over all pairs of
  bitmaps (200 x 200 cells on 1000²), and a loop over the cells that looks only at the
  segments under each (1,000 x 1,000 on 2000²).
* IoU of predictions that overlap each other, as RLE: pycocotools against the table.
* A bootstrap of AP50: faster-coco-eval on each resample against weights of the images
  that are matched once; 30 images with 300 cells of 4 classes.

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

from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.iou_table import iou_table
from custom.evaluation.matching import ImageResult, match_image
from custom.structures import LabelMasks
from custom.workbench.analysis.sample import Sample

RESAMPLES = 20
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


def all_pairs(pair: tuple[LabelMasks, LabelMasks]) -> np.ndarray:
    """(G, P) shared pixels, from bitmaps."""
    gt, pred = (masks.to_ndarray().astype(bool) for masks in pair)
    table = np.zeros((len(gt), len(pred)), np.int64)
    for i, cell in enumerate(gt):
        for j, segment in enumerate(pred):
            table[i, j] = np.count_nonzero(cell & segment)
    return table


def cell_by_cell(pair: tuple[LabelMasks, LabelMasks]) -> np.ndarray:
    """(G, P) shared pixels, one pass over the image for each cell."""
    gt, pred = pair
    table = np.zeros((len(gt), len(pred)), np.int64)
    for i, label in enumerate(gt.ids):
        under = pred.planes[0][gt.planes[0] == label]
        counts = np.bincount(under, minlength=int(pred.ids.max()) + 1)
        table[i] = counts[pred.ids]
    return table


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


def make_resamples() -> tuple[list[dict], list[ImageResult], np.ndarray]:
    """Images in both forms, and how often each resample draws each of them."""
    rows = make_images()
    keys = ("size", "gt_labels", "labels", "scores", "boxes", "rles")
    results = [
        ImageResult(
            name=str(row["img_id"]),
            gt=LabelMasks.from_rles(row["gt_rles"], row["size"]),
            **{key: row[key] for key in keys},
        )
        for row in rows
    ]
    return rows, results, 1 - np.eye(len(rows))[:RESAMPLES]


def stock_bootstrap(data: tuple) -> np.ndarray:
    """AP50 of each resample by faster-coco-eval."""
    rows, _, weights = data
    values = []
    for draw in weights.astype(int):
        copies = [row for row, n in zip(rows, draw, strict=True) for _ in range(n)]
        drawn = [{**row, "img_id": i} for i, row in enumerate(copies)]
        values.append(average_precision(drawn, NAMES, "segm", MAX_DETS)["mAP_50"])
    return np.array(values)


def our_bootstrap(data: tuple) -> np.ndarray:
    """AP50 of each resample, matching included."""
    _, results, weights = data
    matches = [match_image(result, score_thr=0.5) for result in results]
    sample = Sample.of(matches, CLASSES, MAX_DETS)
    return np.array([sample.metrics(row, NAMES)["AP50"] for row in weights])


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
            "intersections, 200 x 200 cells on 1000², all pairs",
            lambda: (cells(200, 1000, 1), cells(200, 1000, 2)),
            all_pairs,
            one_pass,
            200,
            stock_repeats=1,
            same=np.array_equal,
        ),
        Case(
            "intersections, 1,000 x 1,000 cells on 2000², cell by cell",
            lambda: (cells(1000, 2000, 1), cells(1000, 2000, 2)),
            cell_by_cell,
            one_pass,
            1000,
            stock_repeats=1,
            same=np.array_equal,
        ),
        Case(
            "IoU, 1,000 cells x 1,000 RLE that overlap, 2000²",
            make_rles,
            stock_iou,
            table_iou,
            1000,
            same=close,
        ),
        Case(
            f"AP50 of {RESAMPLES} resamples, 30 images",
            make_resamples,
            stock_bootstrap,
            our_bootstrap,
            9000,
            repeats=3,
            stock_repeats=2,
            same=close,
            warm_up=small_images,
        ),
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
