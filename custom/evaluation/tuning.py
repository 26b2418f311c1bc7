"""Choosing post-processing from raw predictions, without the network.

What the model does with a setting is done here by the model's own operators on what the
network said, so that a setting gives the same detections here and there. What does not
depend on the setting is kept: a mask threshold is pasted and compared with ground truth
once, an NMS is run once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from faster_coco_eval import mask as fast_mask
from mmcv.ops import batched_nms

from .predictions import ImagePredictions, Predictions
from .raw_predictions import SCORE_FLOOR, RawImage, RawPredictions

IOU = 0.5
# A smaller gain is chance: one more cell found among thousands.
_LEAST_GAIN = 5e-4
_NMS = [
    *({"type": "nms", "iou_threshold": t / 20} for t in range(2, 16)),
    *(
        {"type": "soft_nms", "iou_threshold": t / 10, "min_score": SCORE_FLOOR}
        for t in range(1, 6)
    ),
]
_SCORES = (
    SCORE_FLOOR,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
)
# What is tried, one setting after the other; the last two class by class.
GRID: dict[str, Sequence] = {
    "nms": _NMS,
    "score_thr": _SCORES,
    "max_per_img": (100, 200, 300, 500, 1000),
    "mask_thr_binary": tuple(t / 20 for t in range(5, 15)),
    "min_area": (0, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200),
    "class_score_thr": (0.0, *_SCORES),
}
PER_CLASS = ("min_area", "class_score_thr")


@dataclass
class Truth:
    """Ground truth of one image.

    Attributes:
        labels: (G,) int.
        rles: G COCO RLE dicts with bytes.
        ignored: Regions that count for nothing: a detection without a cell that lies
            in them by half is neither true nor false, as in :class:`CellCocoMetric`.
    """

    labels: np.ndarray
    rles: list[dict]
    ignored: list[dict] = field(default_factory=list)


@dataclass
class _Image:
    """One image and what is known of it so far."""

    raw: RawImage
    truth: Truth
    nms: dict = field(default_factory=dict)
    masks: dict = field(default_factory=dict)

    def suppressed(self, nms: dict, score_thr: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices and scores after NMS, best first, as ``multiclass_nms`` does it."""
        key = (*nms.items(), score_thr)
        if key not in self.nms:
            above = np.flatnonzero(self.raw.scores > np.float32(score_thr))
            found, keep = np.zeros((0, 5), np.float32), np.zeros(0, np.int64)
            if len(above):
                columns = (self.raw.boxes, self.raw.scores, self.raw.labels)
                found, keep = batched_nms(
                    *(torch.from_numpy(column[above]) for column in columns), nms
                )
                found, keep = found.numpy(), keep.numpy()
            self.nms[key] = above[keep], found[:, 4]
        return self.nms[key]

    def at(self, threshold: float) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
        """What is to be known of all masks at a threshold.

        Their areas; whether they lie in ignored regions; and for each one the instances
        of its class with an IoU of 0.5 or more, the best first.
        """
        if threshold not in self.masks:
            rles = self.raw.masks(threshold).to_rle()
            areas = np.zeros(0, np.int64)
            ignored = np.zeros(len(rles), bool)
            if rles:
                areas = fast_mask.area(rles).astype(np.int64)
            if rles and self.truth.ignored:
                region = fast_mask.merge(self.truth.ignored)
                ignored = fast_mask.iou(rles, [region], [1])[:, 0] >= IOU - 1e-10
            matches: list[list[int]] = [[] for _ in rles]
            for label in np.unique(self.truth.labels):
                gts = np.flatnonzero(self.truth.labels == label)
                dets = np.flatnonzero(self.raw.labels == label)
                if not len(dets):
                    continue
                ious = fast_mask.iou(
                    [rles[i] for i in dets],
                    [self.truth.rles[i] for i in gts],
                    [0] * len(gts),
                )
                # Of equal ones COCO takes the last.
                order = np.lexsort((-np.arange(len(gts)) + 0 * ious, -ious), axis=1)
                for i, row, best in zip(dets, ious, order, strict=True):
                    count = np.count_nonzero(row >= IOU - 1e-10)
                    matches[i] = gts[best[:count]].tolist()
            self.masks[threshold] = areas, ignored, matches
        return self.masks[threshold]


class Tuner:
    """Measures settings of the post-processing on some images.

    Args:
        raw: The raw predictions.
        truths: Ground truth of each image by its name; images that are not in it are
            left out.
        metric: ``'ap50'``, COCO's segm AP50, or ``'f1'``: 2 TP / (detections +
            instances) at mask IoU 0.5, where all detections count alike. Both are the
            mean over the classes that have instances.
        max_dets: Detections of an image and class that AP counts.
    """

    def __init__(
        self,
        raw: RawPredictions,
        truths: dict[str, Truth],
        metric: str = "ap50",
        max_dets: int = 1000,
    ) -> None:
        self.raw, self.max_dets = raw, max_dets
        self.images = [
            _Image(image, truths[image.name])
            for image in raw.images
            if image.name in truths
        ]
        self.metric = {"ap50": _average_precision, "f1": _f1}[metric]

    def detections(
        self, image: _Image, settings: dict
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices and scores of what the model gives, in its order."""
        index, scores = image.suppressed(settings["nms"], settings["score_thr"])
        index, scores = (a[: settings["max_per_img"]] for a in (index, scores))
        labels = image.raw.labels[index]
        keep = np.ones(len(index), bool)
        if limits := settings.get("class_score_thr"):
            keep &= scores > np.array(limits, np.float32)[labels]
        if limits := settings.get("min_area"):
            areas, _, _ = image.at(settings["mask_thr_binary"])
            keep &= areas[index] >= np.array(limits)[labels]
        return index[keep], scores[keep]

    def score(self, settings: dict) -> float:
        """The metric of a setting."""
        classes = range(len(self.raw.classes))
        counts = np.zeros(len(classes), np.int64)
        parts: list[list] = [[] for _ in classes]
        for image in self.images:
            counts += np.bincount(image.truth.labels, minlength=len(classes))
            index, scores = self.detections(image, settings)
            labels = image.raw.labels[index]
            _, ignored, matches = image.at(settings["mask_thr_binary"])
            taken: set[int] = set()
            for label in classes:
                own = np.flatnonzero(labels == label)
                own = own[np.argsort(-scores[own], kind="stable")][: self.max_dets]
                hits = np.zeros(len(own), bool)
                for i, detection in enumerate(index[own].tolist()):
                    for gt in matches[detection]:
                        if gt not in taken:
                            taken.add(gt)
                            hits[i] = True
                            break
                counts_here = hits | ~ignored[index[own]]
                parts[label].append((scores[own][counts_here], hits[counts_here]))
        values = []
        for label in np.flatnonzero(counts):
            scores, hits = (np.concatenate(c) for c in zip(*parts[label], strict=True))
            values.append(self.metric(scores, hits, int(counts[label])))
        return float(np.mean(values)) if values else -1.0

    def predictions(self, settings: dict) -> Predictions:
        """What the model gives with a setting, for the full evaluation."""
        images = []
        for image in self.images:
            index, scores = self.detections(image, settings)
            masks = image.raw.masks(settings["mask_thr_binary"])[index]
            images.append(
                ImagePredictions(
                    image.raw.img_id,
                    image.raw.name,
                    image.raw.size,
                    image.raw.labels[index],
                    scores.astype(np.float64),
                    image.raw.boxes[index].astype(np.float64),
                    masks.to_rle(),
                )
            )
        return Predictions(self.raw.classes, images, self.raw.info)

    def steps(self, settings: dict) -> list[tuple[str, int | None, object]]:
        """Setting, class (or None) and value of everything in :data:`GRID`."""
        found = []
        for key, values in GRID.items():
            labels = range(len(self.raw.classes)) if key in PER_CLASS else [None]
            for label in labels:
                here = value_of(settings, key, label)
                found += [
                    (key, label, value)
                    for value in (*values, *([here] if here not in values else []))
                ]
        return found

    def search(self, settings: dict, progress=None) -> tuple[dict, float, list]:
        """Coordinate search: one setting after the other, until nothing gains.

        Args:
            settings: Where it starts; a value is left only for one that gains 0.0005.
            progress: Called after each value that was tried, if given.

        Returns:
            The best settings, their metric, and a row for each value of the last round:
            setting, class or None, value, metric. All other settings are the best.
        """
        best = self.score(settings)
        while True:
            before, rows = dict(settings), []
            for key, label, value in self.steps(settings):
                trial = with_value(settings, key, label, value, len(self.raw.classes))
                score = self.score(trial)
                rows.append((key, label, value, score))
                if score >= best + _LEAST_GAIN:
                    settings, best = trial, score
                if progress is not None:
                    progress()
            if settings == before:
                return settings, best, rows


def value_of(settings: dict, key: str, label: int | None) -> object:
    """A setting, for one class where it has a value for each."""
    if label is None:
        return settings[key]
    return settings[key][label] if settings.get(key) else 0


def with_value(
    settings: dict, key: str, label: int | None, value: object, num_classes: int
) -> dict:
    """The settings with another value."""
    if label is None:
        return {**settings, key: value}
    values = list(settings.get(key) or [0] * num_classes)
    values[label] = value
    return {**settings, key: values}


def _average_precision(scores: np.ndarray, hits: np.ndarray, count: int) -> float:
    """COCO's AP at one IoU from detections in the order of the images."""
    hits = hits[np.argsort(-scores, kind="stable")]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    # Interpolated: the best precision at this recall or a higher one, at 101 recalls.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(found / count, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(place, len(hits))].mean())


def _f1(scores: np.ndarray, hits: np.ndarray, count: int) -> float:
    return 2 * int(hits.sum()) / (len(hits) + count)
