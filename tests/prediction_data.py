"""Small scenes of cells with predictions that are partly right."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from custom.evaluation import ImagePredictions, Predictions

CLASSES = ("class1", "class2", "class3")
SIZE = (48, 64)


def encode(masks: np.ndarray) -> list[dict]:
    """COCO RLE of (N, H, W) bitmaps."""
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def discs(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 4) boxes of discs that may overlap."""
    radius = rng.uniform(2, 7, (count, 1))
    centre = rng.uniform(0, 1, (count, 2)) * SIZE[::-1]
    return np.concatenate([centre - radius, centre + radius], axis=1)


def draw_discs(boxes: np.ndarray) -> list[dict]:
    """The RLE of the discs that fill the boxes."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    x1, y1, x2, y2 = boxes.T[:, :, None, None]
    away = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2
    return encode(away <= 1)


def make_scene(
    seed: int, images: int = 3, cells: int = 12, extra: int = 6
) -> tuple[Predictions, list[dict]]:
    """Predictions, some shifted, some of another class, some of nothing; and the truth.

    Boxes and scores are float32 values, as a network gives them.
    """
    rng = np.random.default_rng(seed)
    result, truth = [], []
    for i in range(images):
        gt_boxes = discs(rng, int(rng.integers(0, cells + 1)))
        gt_labels = rng.integers(0, len(CLASSES), len(gt_boxes))
        pick = rng.permutation(np.repeat(np.arange(len(gt_boxes)), rng.integers(1, 3)))
        boxes = gt_boxes[pick] + rng.normal(0, 1, (len(pick), 1))
        labels = np.where(
            rng.random(len(pick)) < 0.2, rng.integers(0, 3, len(pick)), gt_labels[pick]
        )
        boxes = np.concatenate([boxes, discs(rng, extra)])
        labels = np.concatenate([labels, rng.integers(0, 3, extra)])
        scores = rng.random(len(boxes))
        name = f"image{i}"
        result.append(
            ImagePredictions(
                10 + i,
                name,
                SIZE,
                labels.astype(np.int64),
                scores.astype(np.float32).astype(np.float64),
                boxes.astype(np.float32).astype(np.float64),
                draw_discs(boxes),
            )
        )
        truth.append(
            {"name": name, "gt_labels": gt_labels, "gt_rles": draw_discs(gt_boxes)}
        )
    return Predictions(CLASSES, result, {"subset": "val"}), truth
