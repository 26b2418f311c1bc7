"""Drawn images with cells and imperfect predictions of them, for tests of metrics."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from custom.evaluation.matching import ImageResult
from custom.structures import LabelMasks

CLASSES = ("a", "b", "c")


def to_rle(bitmap: np.ndarray) -> dict:
    """A bitmap as compressed RLE."""
    return coco_mask.encode(np.asfortranarray(bitmap, np.uint8))


def make_result(
    gt: np.ndarray,
    gt_labels: list[int],
    predictions: list[tuple[np.ndarray, int, float]],
    ignored: np.ndarray | None = None,
    name: str = "image",
) -> ImageResult:
    """An image from a label image with the ids 1, 2, ... and (bitmap, label, score)."""
    rles = [to_rle(bitmap) for bitmap, _, _ in predictions]
    boxes = coco_mask.toBbox(rles) if rles else np.zeros((0, 4))
    boxes = boxes.astype(float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    count = len(gt_labels)
    regions = None
    if ignored is not None:
        regions = LabelMasks.from_label_images([ignored.astype(np.int32)])[0]
    return ImageResult(
        img_id=1,
        name=name,
        size=gt.shape,
        gt=LabelMasks(
            gt[None].astype(np.int32), np.zeros(count, int), np.arange(1, count + 1)
        ),
        gt_labels=np.array(gt_labels, np.int64),
        labels=np.array([label for _, label, _ in predictions], np.int64),
        scores=np.array([score for _, _, score in predictions], np.float64),
        boxes=boxes,
        rles=rles,
        ignored=regions,
    )


def random_result(
    rng: np.random.Generator, ignored: bool = False, name: str = "image"
) -> ImageResult:
    """Touching discs; predictions moved, cut, joined, doubled, misnamed or invented."""
    size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    yy, xx = np.mgrid[: size[0], : size[1]]

    def disc() -> np.ndarray:
        y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.uniform(2, 9)
        return (yy - y) ** 2 + (xx - x) ** 2 < r * r

    gt = np.zeros(size, np.int32)
    for i in range(rng.integers(0, 14)):
        gt[disc() & (gt == 0)] = i + 1
    ids = np.unique(gt[gt > 0])
    gt, count = np.where(gt, np.searchsorted(ids, gt) + 1, 0), len(ids)
    labels = rng.integers(0, len(CLASSES), count).tolist()
    predictions = []
    for i in range(count):
        mask, kind = gt == i + 1, rng.integers(8)
        if kind == 0:
            continue
        if kind == 1:
            mask = np.roll(mask, rng.integers(-4, 5, 2), (0, 1))
        elif kind == 2:
            half = xx < xx[mask].mean()
            predictions.append((mask & half, labels[i], rng.random()))
            mask = mask & ~half
        elif kind == 3:
            mask = mask | (gt == rng.integers(1, count + 1))
        elif kind == 4:
            predictions.append((mask, int(rng.integers(len(CLASSES))), rng.random()))
        label = labels[i] if rng.random() < 0.8 else int(rng.integers(len(CLASSES)))
        predictions.append((mask, label, rng.random()))
    predictions += [
        (disc(), int(rng.integers(len(CLASSES))), rng.random())
        for _ in range(rng.integers(0, 4))
    ]
    predictions = [(m, label, s) for m, label, s in predictions if m.any()]
    predictions = [predictions[i] for i in rng.permutation(len(predictions))]
    region = None
    if ignored:
        region = np.where(gt == 0, disc() + 2 * disc(), 0)
    return make_result(gt, labels, predictions, region, name)


def bitmaps(result: ImageResult) -> tuple[np.ndarray, np.ndarray]:
    """(G, H, W) and (P, H, W) bool."""
    masks = [coco_mask.decode(rle) for rle in result.rles]
    return result.gt.to_ndarray() > 0, np.array(masks, bool).reshape(-1, *result.size)
