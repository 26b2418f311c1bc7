"""Every metric and every error of a run, as a report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from custom.errors import InputError
from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.matching import IOU_THR, ImageMatch, ImageResult, match_image
from custom.evaluation.panoptic import (
    aji_plus,
    dice,
    mean_of_defined,
    panoptic_quality,
    precision_recall_f1,
)
from custom.workbench.analysis.outcomes import (
    CELL_OUTCOMES,
    PREDICTION_OUTCOMES,
    Outcomes,
    confusion,
    find_outcomes,
)
from custom.workbench.analysis.published import (
    centroid_counts,
    centroid_scores,
    count_errors,
    panoptic_scores,
)
from custom.workbench.analysis.sample import Sample, estimates
from custom.workbench.analysis.statistics import Estimate

_SIZES = (0, 8, 12, 16, 24, 32, 48, 64, 96, np.inf)  # px, the root of the area


@dataclass
class ImageAnalysis:
    """Scores and outcomes of one image.

    Attributes:
        name: The image's name.
        ap50: Mean over the classes that the image has.
        pq: Of all classes together; each match needs the right class.
        outcomes: Of its cells, in the order of ``ImageResult.gt``, and its predictions.
        max_score: Score of its most confident prediction, -1 without any.
    """

    name: str
    ap50: float
    pq: float
    outcomes: Outcomes
    max_score: float


@dataclass
class Analysis:
    """The analysis of a run on a set of images.

    docs/metrics.md defines the metrics; one that is not defined is NaN.

    Attributes:
        classes: Names of the classes.
        settings: ``score_thr, iou_thr, max_dets``.
        groups: The group of each image, over which the intervals are.
        unit: What a group is: ``'patient'`` or ``'image'``.
        metrics: Of all classes, see :func:`_metrics`.
        per_class: Of each class, see :func:`_per_class`.
        intervals: See :func:`custom.workbench.analysis.sample.estimates`.
        confusion: (C + 1) x (C + 1) counts; rows: class of the cell, columns: class of
            the prediction, last: background.
        cell_outcomes: ``{class: {outcome: count}}``.
        prediction_outcomes: Likewise.
        recall_by_size: ``{bin: (cells, share of them with the outcome true)}`` of the
            bins that have cells, by the root of the area in pixels.
        images: One entry for each image, in the order given.
        sample: The matched images, for :func:`compare` and the curves.
    """

    classes: list[str]
    settings: dict[str, float | int]
    groups: list[str]
    unit: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    intervals: dict[str, Estimate]
    confusion: np.ndarray
    cell_outcomes: dict[str, dict[str, int]]
    prediction_outcomes: dict[str, dict[str, int]]
    recall_by_size: dict[str, tuple[int, float]]
    images: list[ImageAnalysis]
    sample: Sample = field(repr=False)


def analyse(
    images: Sequence[ImageResult],
    classes: Sequence[str],
    score_thr: float = 0.5,
    max_dets: int = 1000,
    patient_of: Mapping[str, str] | None = None,
) -> Analysis:
    """Every metric of a set of images.

    Args:
        images: See :func:`custom.workbench.analysis.results.load_results`.
        classes: Names of the classes in the order of the labels.
        score_thr: Predictions from this score on count in all metrics that need a
            decision: all but AP and the curves.
        max_dets: Predictions per image and class that count for AP.
        patient_of: Patient of each image by its name, see
            :func:`custom.datasets.splits.patients_from_names`.
    """
    matches = [
        match_image(image, score_thr)
        for image in tqdm(images, desc="match", unit="image", delay=1, leave=False)
    ]
    n_classes = len(classes)
    sample = Sample.of(matches, n_classes, max_dets)
    outcomes = [find_outcomes(match) for match in matches]
    pairs = list(zip(outcomes, images, strict=True))
    names = [image.name for image in images]
    groups = names if patient_of is None else [patient_of[name] for name in names]
    rows = [image.coco_row(i) for i, image in enumerate(images, 1)]
    coco = average_precision(rows, classes, "segm", max_dets)
    centroids = centroid_scores(sum(centroid_counts(m, n_classes) for m in matches))
    return Analysis(
        classes=list(classes),
        settings={"score_thr": score_thr, "iou_thr": IOU_THR, "max_dets": max_dets},
        groups=groups,
        unit="image" if patient_of is None else "patient",
        metrics=_metrics(matches, sample, coco, centroids),
        per_class=_per_class(sample, coco, centroids[2], classes),
        intervals=estimates([sample], classes, groups),
        confusion=sum(confusion(o, i.gt_labels, i.labels, n_classes) for o, i in pairs),
        cell_outcomes=_count_outcomes(
            CELL_OUTCOMES, [(o.cells, i.gt_labels) for o, i in pairs], classes
        ),
        prediction_outcomes=_count_outcomes(
            PREDICTION_OUTCOMES, [(o.predictions, i.labels) for o, i in pairs], classes
        ),
        recall_by_size=_recall_by_size(matches, outcomes),
        images=_images(matches, outcomes, sample),
        sample=sample,
    )


def compare(first: Analysis, second: Analysis) -> dict[str, Estimate]:
    """Differences of two runs on the same images, second minus first, paired.

    Returns:
        The metrics of ``Analysis.intervals`` with intervals and p-values over the
        groups of ``first``.

    Raises:
        InputError: The images or the classes differ.
    """
    if [i.name for i in first.images] != [i.name for i in second.images] or (
        first.classes != second.classes
    ):
        raise InputError(
            "comparison",
            "the two runs were evaluated on different images or classes",
            "Compare runs of one split",
        )
    return estimates([first.sample, second.sample], first.classes, first.groups)


def _metrics(
    matches: Sequence[ImageMatch],
    sample: Sample,
    coco: Mapping[str, float],
    centroids: tuple[float, float, np.ndarray],
) -> dict[str, float]:
    """Metrics of all classes; those of PQ are pooled over images (mPQ+)."""
    pq, dq, sq = panoptic_quality(sample.panoptic.sum(axis=0))
    predictions = sample.detection[..., :2].sum(axis=-1)
    pooled = precision_recall_f1(sample.detection.sum(axis=(0, 1)))
    counting = count_errors(sample.cells, predictions)
    return {
        "AP": _or_nan(coco["mAP"]),
        "AP50": _or_nan(coco["mAP_50"]),
        "AP75": _or_nan(coco["mAP_75"]),
        **dict(zip(("precision", "recall", "F1"), map(float, pooled), strict=True)),
        "PQ": mean_of_defined(pq),
        "DQ": mean_of_defined(dq),
        "SQ": mean_of_defined(sq),
        **panoptic_scores(matches, sample.panoptic),
        "F_d": centroids[0],
        "accuracy": centroids[1],
        **{key: mean_of_defined(value) for key, value in counting.items()},
        "AJI": mean_of_defined(sample.aji),
        "AJI_plus": mean_of_defined(
            np.array([aji_plus(m.segment_table) for m in matches])
        ),
        "Dice": mean_of_defined(np.array([dice(m) for m in matches])),
        "cells": int(sample.cells.sum()),
        "predictions": int(predictions.sum()),
    }


def _per_class(
    sample: Sample, coco: Mapping[str, float], f_c: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Metrics of each class."""
    predictions = sample.detection[..., :2].sum(axis=-1)
    rates = precision_recall_f1(sample.detection.sum(axis=0))
    quality = panoptic_quality(sample.panoptic.sum(axis=0))
    columns = {
        **dict(zip(("precision", "recall", "F1"), rates, strict=True)),
        **dict(zip(("PQ", "DQ", "SQ"), quality, strict=True)),
        "F_c": f_c,
        **count_errors(sample.cells, predictions),
        "cells": sample.cells.sum(axis=0),
        "predictions": predictions.sum(axis=0),
    }
    return {
        name: {
            "AP": _or_nan(coco[f"mAP_{name}"]),
            "AP50": _or_nan(coco[f"mAP_50_{name}"]),
            "AP75": _or_nan(coco[f"mAP_75_{name}"]),
            **{key: float(values[k]) for key, values in columns.items()},
        }
        for k, name in enumerate(classes)
    }


def _recall_by_size(
    matches: Sequence[ImageMatch], outcomes: Sequence[Outcomes]
) -> dict[str, tuple[int, float]]:
    """See :class:`Analysis`."""
    true = np.concatenate([o.cells == "true" for o in outcomes])
    sides = np.sqrt(np.concatenate([m.table.gt_areas for m in matches]))
    recall = {}
    for low, high in pairwise(_SIZES):
        inside = (low <= sides) & (sides < high)
        if inside.any():
            name = f"{low}+" if np.isinf(high) else f"{low}-{high}"
            recall[name] = int(inside.sum()), float(true[inside].mean())
    return recall


def _count_outcomes(
    names: Sequence[str],
    images: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
) -> dict[str, dict[str, int]]:
    """Counts of each outcome by class, from the (outcomes, labels) of each image."""
    outcomes, labels = (np.concatenate(parts) for parts in zip(*images, strict=True))
    return {
        c: {n: int(np.count_nonzero(outcomes[labels == k] == n)) for n in names}
        for k, c in enumerate(classes)
    }


def _images(
    matches: Sequence[ImageMatch], outcomes: Sequence[Outcomes], sample: Sample
) -> list[ImageAnalysis]:
    """See :class:`ImageAnalysis`."""
    n_classes = sample.cells.shape[1]
    pq = panoptic_quality(sample.panoptic.sum(axis=1))[0]
    images = []
    for i, alone in enumerate(np.eye(len(matches))):
        result = matches[i].result
        ap50 = np.array([sample.curve(k, alone)[0].mean() for k in range(n_classes)])
        scores = float(mean_of_defined(ap50)), float(pq[i])
        max_score = float(result.scores.max(initial=-1))
        images.append(ImageAnalysis(result.name, *scores, outcomes[i], max_score))
    return images


def _or_nan(value: float) -> float:
    """COCO's -1, not defined, is NaN here."""
    return value if value >= 0 else float("nan")
