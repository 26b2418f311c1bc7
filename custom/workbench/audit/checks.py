"""Suspicious images and cells of a data set.

:func:`inspect` measures one image and keeps no pixels; :func:`findings` compares the
measurements of all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage, stats

from custom.datasets.stain import patch_features, signatures
from custom.evaluation.iou_table import iou_table
from custom.io.colours import ChannelOrder, channel_order_of
from custom.structures import LabelMasks

# The kinds of findings, the worst first: title, meaning and remedy.
KINDS = {
    "unreadable": (
        "Images that cannot be used",
        "A training stops at the first of them. The reason says what to do.",
    ),
    "patient": (
        "Patients in both halves of the split",
        "Validation then partly measures how well the model memorised training "
        "images. Use a grouped split.",
    ),
    "look": (
        "Images that look like one slide in both halves of the split",
        "The patients are not known; these images share colours and sharpness. Use a "
        "stain split, or name the patients.",
    ),
    "duplicate": (
        "Near-duplicates",
        "Two images show the same, perhaps flipped or turned. Remove one; in two "
        "halves of a split they make validation worthless.",
    ),
    "color order": (
        "Red and blue exchanged",
        "A model trained on one order performs badly on the other. If the whole data "
        "set is stored so, set channel_order of LoadCellImage; if only some images "
        "are, save these again in true colours.",
    ),
    "stain": (
        "Stain outliers",
        "Colours or sharpness far from those of the other images. Check that images "
        "to predict look like them.",
    ),
    "overlap": (
        "Cells of two classes on the same pixels",
        "One of the two is wrong where one hides the other completely; a few pixels "
        "along a common border do no harm.",
    ),
    "parts": (
        "Cells in several pieces",
        "One id in separate places: often two cells that share an id, or specks left "
        "by a brush.",
    ),
    "tiny": (
        "Tiny fragments",
        "Below 16 pixels, or below a tenth of the median area of the class.",
    ),
    "huge": (
        "Very large cells",
        "Above ten times the median area of the class: often cells that were merged.",
    ),
    "small image": (
        "Small images",
        "A side below 64 pixels is two or fewer points on the coarser feature maps.",
    ),
    "crowded": (
        "More cells than the model may report",
        "Recall is capped in these images. Raise max_per_img of the model's test_cfg.",
    ),
    "no cells": (
        "Images without cells",
        "Fine as negatives if they are meant as such.",
    ),
    "absent class": (
        "Classes that one half of the split lacks",
        "They cannot be learnt, or cannot be measured.",
    ),
}

# Real regions that differ correlate up to 0.45, a region and its JPEG above 0.99.
_SAME = 0.9
_SIDE = 32
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): 3.5 is theirs.
_OUTLIER = 3.5


@dataclass(frozen=True)
class Finding:
    """One suspicion.

    Attributes:
        kind: A key of :data:`KINDS`.
        images: Names of the images that it is about; none if it is about all.
        text: The evidence in a few words.
        box: (x1, y1, x2, y2) in the first image if it is about one cell.
    """

    kind: str
    images: tuple[str, ...]
    text: str
    box: tuple[int, int, int, int] | None = None


@dataclass
class Facts:
    """Measurements of one image.

    Attributes:
        name: Its name.
        subset: ``'train'`` or ``'val'``.
        size: (H, W) in pixels.
        labels: (N,) class of each cell.
        boxes: (N, 4) xyxy.
        areas: (N,) in pixels.
        at_border: (N,) whether the cell touches the border of the image.
        parts: For each cell in pieces (index, pieces, pixels outside the largest).
        overlaps: For each pair of cells [index, index, pixels they share].
        colours: The order of its channels, see
            :func:`custom.io.colours.channel_order_of`.
        features: See :func:`custom.datasets.stain.patch_features`.
        small: (32, 32) the image at low resolution, mean 0 and norm 1.
    """

    name: str
    subset: str
    size: tuple[int, int]
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    at_border: np.ndarray
    parts: list[tuple[int, int, int]]
    overlaps: list[list[int]]
    colours: ChannelOrder
    features: np.ndarray
    small: np.ndarray


def inspect(
    name: str, subset: str, image: np.ndarray, masks: LabelMasks, labels: np.ndarray
) -> Facts:
    """Measurements of an image (H, W, 3) uint8 RGB with its N cells."""
    boxes = masks.boxes()
    edges = [0, 0, masks.width, masks.height]
    parts = []
    for i, (_, _, patch) in enumerate(masks.patches()):
        pieces, count = ndimage.label(patch, np.ones((3, 3)))
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            parts.append((i, count, int(sizes.sum() - sizes.max())))
    table = iou_table(masks, masks)
    shared = np.stack([table.gt, table.pred, table.pixels], axis=1)
    return Facts(
        name=name,
        subset=subset,
        size=(masks.height, masks.width),
        labels=np.asarray(labels),
        boxes=boxes,
        areas=table.gt_areas,
        at_border=(boxes == edges).any(1),
        parts=parts,
        overlaps=shared[table.gt < table.pred].tolist(),
        colours=channel_order_of(image, masks.foreground()),
        features=patch_features(image),
        small=_at_a_glance(image),
    )


def _at_a_glance(image: np.ndarray) -> np.ndarray:
    # Green does not depend on the order of red and blue.
    small = cv2.resize(image[..., 1], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32) - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def findings(
    facts: Sequence[Facts],
    classes: Sequence[str],
    max_dets: int,
    patient_of: Mapping[str, str] | None,
    cluster_of: Mapping[str, str],
) -> list[Finding]:
    """All findings, in the order of :data:`KINDS` and the worst first.

    Args:
        facts: Measurements of each image.
        classes: Names of the classes in the order of the labels.
        max_dets: Detections per image that the model gives.
        patient_of: Patient of each image, if known.
        cluster_of: Stain cluster of each image, for data of unknown patients.
    """
    results = [
        *_in_both_halves(facts, patient_of, cluster_of),
        *_duplicates(facts),
        *_color_orders(facts),
        *_stain_outliers(facts),
        *_suspect_cells(facts, classes),
        *_suspect_images(facts, max_dets),
        *_absent_classes(facts, classes),
    ]
    return sorted(results, key=lambda finding: list(KINDS).index(finding.kind))


def _in_both_halves(facts, patient_of, cluster_of) -> Iterator[Finding]:
    kind, unit_of = ("patient", patient_of) if patient_of else ("look", cluster_of)
    units: dict[str, list[Facts]] = {}
    for image in facts:
        units.setdefault(unit_of[image.name], []).append(image)
    for unit, images in sorted(units.items()):
        counts = Counter(image.subset for image in images)
        if len(counts) > 1:
            # One of each half first: these are the two that are shown.
            images = sorted(images, key=lambda image: image.subset)
            names = [images[0].name, images[-1].name]
            names += [image.name for image in images[1:-1]]
            text = f"{unit}: {counts['train']} train, {counts['val']} val"
            yield Finding(kind, tuple(names), text)


def _duplicates(facts: Sequence[Facts]) -> Iterator[Finding]:
    plain = np.array([image.small for image in facts])
    rows = plain.reshape(len(facts), -1)
    best = np.zeros((len(facts), len(facts)), np.float32)
    for turns, flipped in itertools.product(range(4), (False, True)):
        view = np.rot90(plain, turns, (1, 2))
        view = (view[:, ::-1] if flipped else view).reshape(rows.shape)
        np.maximum(best, rows @ view.T, out=best)
    pairs = np.argwhere(np.triu(best, 1) > _SAME)
    for i, j in sorted(pairs.tolist(), key=lambda pair: -best[tuple(pair)]):
        first, second = facts[i], facts[j]
        where = "" if first.subset == second.subset else ", one in each half"
        text = f"correlation {best[i, j]:.3f}{where}"
        yield Finding("duplicate", (first.name, second.name), text)


def _color_orders(facts: Sequence[Facts]) -> Iterator[Finding]:
    true, exchanged = (
        [image for image in facts if image.colours.order == order]
        for order in ("rgb", "bgr")
    )
    if len(exchanged) > len(true):
        text = f"{len(exchanged)} of {len(facts)} images, as they are loaded"
        yield Finding("color order", (), text)
        exchanged, true = true, exchanged
    if true:
        for image in exchanged:
            yield Finding("color order", (image.name,), str(image.colours))


def _stain_outliers(facts: Sequence[Facts]) -> list[Finding]:
    points = signatures([image.features for image in facts])
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    spread = stats.median_abs_deviation(distance, scale="normal")
    if spread == 0:
        return []
    score = (distance - np.median(distance)) / spread
    return [
        Finding("stain", (facts[i].name,), f"modified z-score {score[i]:.1f}")
        for i in np.argsort(-score)
        if score[i] > _OUTLIER
    ]


def _suspect_cells(facts: Sequence[Facts], classes: Sequence[str]) -> list[Finding]:
    labels = np.concatenate([image.labels for image in facts])
    areas = np.concatenate([image.areas for image in facts])
    medians = {c: float(np.median(areas[labels == c])) for c in set(labels.tolist())}
    suspects = []  # (how bad, finding)

    def add(kind: str, image: Facts, index: int, text: str, badness: float) -> None:
        box = tuple(int(v) for v in image.boxes[index])
        text = f"{classes[image.labels[index]]}, {text}"
        suspects.append((badness, Finding(kind, (image.name,), text, box)))

    for image in facts:
        for i, (label, area) in enumerate(zip(image.labels, image.areas, strict=True)):
            if area < max(16, medians[label] / 10):
                add("tiny", image, i, f"{area} px", -float(area))
            elif area > 10 * medians[label]:
                ratio = area / medians[label]
                add("huge", image, i, f"{ratio:.0f} times the median", ratio)
        for i, count, stray in image.parts:
            add("parts", image, i, f"{count} pieces, {stray} px astray", stray)
        for i, j, pixels in image.overlaps:
            share = pixels / min(image.areas[i], image.areas[j])
            text = f"{pixels} px with {classes[image.labels[j]]}, {share:.0%}"
            add("overlap", image, i, f"{text} of the smaller", share)
    return [finding for _, finding in sorted(suspects, key=lambda pair: -pair[0])]


def _suspect_images(facts: Sequence[Facts], max_dets: int) -> Iterator[Finding]:
    for image in sorted(facts, key=lambda image: min(image.size)):
        if min(image.size) < 64:
            text = f"{image.size[1]}x{image.size[0]} px"
            yield Finding("small image", (image.name,), text)
    for image in sorted(facts, key=lambda image: -len(image.labels)):
        if len(image.labels) > max_dets:
            text = f"{len(image.labels)} cells, at most {max_dets} detections"
            yield Finding("crowded", (image.name,), text)
        if not len(image.labels):
            yield Finding("no cells", (image.name,), image.subset)


def _absent_classes(facts, classes) -> Iterator[Finding]:
    for subset in dict.fromkeys(image.subset for image in facts):
        labels = [image.labels for image in facts if image.subset == subset]
        counts = np.bincount(np.concatenate(labels), minlength=len(classes))
        for name, count in zip(classes, counts, strict=True):
            if not count:
                yield Finding("absent class", (), f"{name} is not in {subset}")
