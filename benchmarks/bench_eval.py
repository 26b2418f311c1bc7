"""COCO evaluation of dense images: pycocotools against faster-coco-eval.

30 images with 300 cells of 4 classes each and as many detections, which are the cells
moved by a few pixels, some lost and some of the wrong class.

Example::

    python benchmarks/bench_eval.py
"""

from __future__ import annotations

import contextlib
import io

from common import Case, parse_root, run_cases

# isort: split
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from custom.evaluation.cell_coco_metric import (
    average_precision,
    coco_detections,
    coco_ground_truth,
)
from custom.structures.rle import encode_runs, patch_runs

IMAGES, CELLS, CLASSES, SIDE, MAX_DETS = 30, 300, 4, 1000, 1000


def discs(centres: np.ndarray, radii: np.ndarray) -> list[dict]:
    """Round masks as RLE."""
    reach = int(radii.max()) + 1
    offset = np.arange(-reach, reach + 1)
    distance = offset[:, None] ** 2 + offset[None] ** 2
    patches = distance[None] <= radii[:, None, None] ** 2
    runs = patch_runs(patches, centres.astype(np.int64) - reach, SIDE)
    return encode_runs(*runs, len(centres), (SIDE, SIDE))


def make() -> list[dict]:
    """Images as the metric keeps them."""
    rng = np.random.default_rng(0)
    results = []
    for image in range(IMAGES):
        centres = rng.integers(30, SIDE - 30, (CELLS, 2))
        radii = rng.uniform(4, 20, CELLS)
        labels = rng.integers(0, CLASSES, CELLS)
        moved = (centres + rng.normal(0, 2, centres.shape)).round().clip(25, SIDE - 26)
        wrong = rng.random(CELLS) < 0.1
        results.append(
            {
                "img_id": image,
                "size": (SIDE, SIDE),
                "gt_labels": labels,
                "gt_rles": discs(centres, radii),
                "labels": np.where(wrong, rng.integers(0, CLASSES, CELLS), labels),
                "scores": rng.random(CELLS),
                "boxes": np.stack(
                    [
                        moved[:, 1] - radii,
                        moved[:, 0] - radii,
                        moved[:, 1] + radii,
                        moved[:, 0] + radii,
                    ],
                    axis=1,
                ),
                "rles": discs(moved, radii),
            }
        )
    return results


def stock(results: list[dict]) -> np.ndarray:
    """Pycocotools' precision table of the masks."""
    names = [f"class{i}" for i in range(1, CLASSES + 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_ground_truth(results, names)
        truth.createIndex()
        detections = truth.loadRes(coco_detections(results, "segm"))
        evaluation = COCOeval(truth, detections, "segm")
        evaluation.params.maxDets = [1, 100, MAX_DETS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return np.array([precision[..., 0, 2].mean(), precision[0, :, :, 0, 2].mean()])


def ours(results: list[dict]) -> np.ndarray:
    """The project's metrics."""
    names = [f"class{i}" for i in range(1, CLASSES + 1)]
    scores = average_precision(results, names, "segm", MAX_DETS)
    return np.array([scores["mAP"], scores["mAP_50"]])


def cases(root) -> list[Case]:
    """Masks."""
    return [
        Case(
            f"evaluate segm, {IMAGES} images, {CLASSES} classes",
            make,
            stock,
            ours,
            IMAGES * CELLS,
            against="pycocotools",
            repeats=1,
            same=lambda a, b: bool(np.allclose(a, b, rtol=0, atol=1e-6)),
        )
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
