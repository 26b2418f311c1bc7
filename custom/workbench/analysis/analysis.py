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
from custom.workbench.analysis.breakdown import (
    calibrate,
    confusion,
    neighbours,
    recall_in_bins,
)
from custom.workbench.analysis.outcomes import (
    CELL_OUTCOMES,
    PREDICTION_OUTCOMES,
    Outcomes,
    find_outcomes,
)
from custom.workbench.analysis.published import (
    centroid_counts,
    centroid_scores,
    count_errors,
    panoptic_scores,
)
from custom.workbench.analysis.sample import RECALLS, Sample, estimates
from custom.workbench.analysis.statistics import Estimate

_SIZES = (0, 8, 12, 16, 24, 32, 48, 64, 96)  # px, the root of the area
_CROWD = (0, 1, 2, 3, 4, 5)


@dataclass
class Curve:
    """Precision over recall of one class at mask IoU 0.5, as COCO computes it.

    Attributes:
        recall: (101,) 0 to 1.
        precision: (101,) the interpolated precision at that recall.
        score: (101,) the score threshold that reaches that recall, NaN where none does.
        ap50: Mean of ``precision``; NaN without cells of the class.
        best_f1: The largest F1 that any score threshold gives.
        best_score: That threshold.
    """

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray
    ap50: float
    best_f1: float
    best_score: float


@dataclass
class Calibration:
    """Scores against the share of true predictions; B bins, NaN in empty ones.

    Attributes:
        counts: (B,) predictions.
        score: (B,) mean score.
        precision: (B,) share of true predictions.
        ece: Expected calibration error.
    """

    counts: np.ndarray
    score: np.ndarray
    precision: np.ndarray
    ece: float


@dataclass
class RecallBins:
    """Recall of groups of cells.

    Attributes:
        names: The cells of each bin, for example ``'16-24 px'``.
        counts: Cells of each bin.
        recall: Share of them with the outcome true, NaN for an empty bin.
    """

    names: list[str]
    counts: np.ndarray
    recall: np.ndarray


@dataclass
class ImageAnalysis:
    """Metrics and outcomes of one image.

    Attributes:
        name: The image's name.
        size: (H, W) in pixels.
        metrics: ``AP50, PQ, AJI, AJI_plus, Dice, precision, recall, F1, cells,
            predictions``; AP50 is the mean over the classes that the image has, PQ
            that of all classes together (each match needs the right class).
        outcomes: Of its cells, in the order of ``ImageResult.gt``, and its predictions.
        max_score: Score of its most confident prediction, -1 without any.
    """

    name: str
    size: tuple[int, int]
    metrics: dict[str, float]
    outcomes: Outcomes
    max_score: float


@dataclass
class Analysis:
    """The analysis of a run on a set of images. See docs/metrics.md for definitions.

    A metric that is not defined is NaN.

    Attributes:
        classes: Names of the classes.
        settings: ``score_thr, iou_thr, max_dets``.
        groups: The group of each image, over which the intervals are.
        unit: What a group is: ``'patient'`` or ``'image'``.
        metrics: Of all classes: ``AP, AP50, AP75`` (masks), ``precision, recall, F1``
            (all classes together), ``PQ, DQ, SQ`` (pooled over images, mean over
            classes: mPQ+), ``mPQ, bPQ, aPQ, aPQ_fp, DSB`` (see :func:`~custom.
            workbench.analysis.published.panoptic_scores`), ``AJI, AJI_plus, Dice``
            (without classes, mean over images), ``F_d`` and ``accuracy`` (of detection
            by centroid, and of the classes of what was detected), ``count_mae,
            count_bias, count_r2`` (mean over classes), ``cells, predictions, ECE``.
        per_class: For each class ``AP, AP50, AP75, precision, recall, F1, best_F1,
            best_score, PQ, DQ, SQ, F_c, count_mae, count_bias, count_r2, cells,
            predictions``.
        intervals: 95 % intervals of ``AP50, PQ, AJI, F1`` and ``AP50 <class>, PQ
            <class>``, or the reasons why there are none.
        confusion: (C + 1) x (C + 1) counts; rows: class of the cell, columns: class of
            the prediction, last: background.
        cell_outcomes: ``{class: {outcome: count}}``.
        prediction_outcomes: ``{class: {outcome: count}}``.
        curves: ``{class: Curve}``.
        calibration: Of all predictions, whatever their score.
        recall_by_size: By the root of the area in pixels.
        recall_by_crowding: By the number of neighbours.
        images: One entry for each image, in the order given.
        sample: The matched images, from which :func:`compare` draws.
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
    curves: dict[str, Curve]
    calibration: Calibration
    recall_by_size: RecallBins
    recall_by_crowding: RecallBins
    images: list[ImageAnalysis]
    sample: Sample = field(repr=False)


def analyse(
    images: Sequence[ImageResult],
    classes: Sequence[str],
    score_thr: float = 0.5,
    max_dets: int = 1000,
    patient_of: Mapping[str, str] | None = None,
) -> Analysis:
    """Compute every metric of a set of images.

    Args:
        images: See :func:`custom.workbench.analysis.results.load_results`.
        classes: Names of the classes in the order of the labels.
        score_thr: Predictions from this score on count in all metrics that need a
            decision: all but AP, curves and calibration.
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
    names = [image.name for image in images]
    groups = names if patient_of is None else [patient_of[name] for name in names]
    calibration = _calibration(matches)
    rows = [image.coco_row(i) for i, image in enumerate(images, 1)]
    coco = average_precision(rows, classes, "segm", max_dets)
    overlap = {
        "AJI": sample.aji,
        "AJI_plus": np.array([aji_plus(m.segment_table) for m in matches]),
        "Dice": np.array([dice(m) for m in matches]),
    }
    centroids = centroid_scores(sum(centroid_counts(m, n_classes) for m in matches))
    metrics = _metrics(matches, sample, coco, centroids)
    metrics.update({key: mean_of_defined(values) for key, values in overlap.items()})
    return Analysis(
        classes=list(classes),
        settings={"score_thr": score_thr, "iou_thr": IOU_THR, "max_dets": max_dets},
        groups=groups,
        unit="image" if patient_of is None else "patient",
        metrics={**metrics, "ECE": calibration.ece},
        per_class=_per_class(sample, coco, centroids[2], classes),
        intervals=estimates([sample], classes, groups),
        confusion=sum(
            confusion(o, image.gt_labels, image.labels, n_classes)
            for o, image in zip(outcomes, images, strict=True)
        ),
        cell_outcomes=_count_outcomes(
            CELL_OUTCOMES,
            [o.cells for o in outcomes],
            [image.gt_labels for image in images],
            classes,
        ),
        prediction_outcomes=_count_outcomes(
            PREDICTION_OUTCOMES,
            [o.predictions for o in outcomes],
            [image.labels for image in images],
            classes,
        ),
        curves={name: _curve(sample, k) for k, name in enumerate(classes)},
        calibration=calibration,
        **_recall_bins(matches, outcomes),
        images=_images(matches, outcomes, sample, overlap),
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
    """The metrics of all classes, see :class:`Analysis`."""
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
        "cells": int(sample.cells.sum()),
        "predictions": int(predictions.sum()),
    }


def _per_class(
    sample: Sample, coco: Mapping[str, float], f_c: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The metrics of each class, see :class:`Analysis`."""
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
    rows = {}
    for k, name in enumerate(classes):
        best_f1, best_score = sample.best_f1(k)
        rows[name] = {
            "AP": _or_nan(coco[f"mAP_{name}"]),
            "AP50": _or_nan(coco[f"mAP_50_{name}"]),
            "AP75": _or_nan(coco[f"mAP_75_{name}"]),
            "best_F1": best_f1,
            "best_score": best_score,
            **{key: float(values[k]) for key, values in columns.items()},
        }
    return rows


def _curve(sample: Sample, k: int) -> Curve:
    precision, score = sample.precision_recall(k)
    return Curve(RECALLS, precision, score, float(precision.mean()), *sample.best_f1(k))


def _calibration(matches: Sequence[ImageMatch]) -> Calibration:
    """Of all predictions that are not ignored."""
    return Calibration(
        *calibrate(
            np.concatenate([m.result.scores[~m.ignored] for m in matches]),
            np.concatenate([m.match[~m.ignored] >= 0 for m in matches]),
        )
    )


def _recall_bins(
    matches: Sequence[ImageMatch], outcomes: Sequence[Outcomes]
) -> dict[str, RecallBins]:
    """Recall by the root of the area, and by the number of neighbours."""
    true = np.concatenate([o.cells == "true" for o in outcomes])
    size = np.sqrt(np.concatenate([m.table.gt_areas for m in matches]))
    crowd = np.concatenate([neighbours(m.result.gt) for m in matches])
    sizes = [f"{a}-{b} px" for a, b in pairwise(_SIZES)]
    sizes.append(f"{_SIZES[-1]} px and more")
    crowds = [*map(str, _CROWD[:-1]), f"{_CROWD[-1]} and more"]
    return {
        "recall_by_size": RecallBins(sizes, *recall_in_bins(size, true, _SIZES)),
        "recall_by_crowding": RecallBins(crowds, *recall_in_bins(crowd, true, _CROWD)),
    }


def _count_outcomes(
    names: Sequence[str],
    outcomes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    classes: Sequence[str],
) -> dict[str, dict[str, int]]:
    """How often each outcome is, by class."""
    outcomes, labels = np.concatenate(outcomes), np.concatenate(labels)
    return {
        c: {n: int(np.count_nonzero(outcomes[labels == k] == n)) for n in names}
        for k, c in enumerate(classes)
    }


def _images(
    matches: Sequence[ImageMatch],
    outcomes: Sequence[Outcomes],
    sample: Sample,
    overlap: Mapping[str, np.ndarray],
) -> list[ImageAnalysis]:
    n_classes = sample.cells.shape[1]
    pq = panoptic_quality(sample.panoptic.sum(axis=1))[0]
    rates = np.stack(precision_recall_f1(sample.detection.sum(axis=1)), axis=1)
    analyses = []
    for i, (match, outcome) in enumerate(zip(matches, outcomes, strict=True)):
        alone = np.eye(len(matches))[i]
        ap50 = np.array([sample.ap50(k, alone) for k in range(n_classes)])
        metrics = {
            "AP50": mean_of_defined(ap50),
            "PQ": pq[i],
            **{key: values[i] for key, values in overlap.items()},
            **dict(zip(("precision", "recall", "F1"), rates[i], strict=True)),
            "cells": len(match.result.gt),
            "predictions": int(match.used.sum()),
        }
        analyses.append(
            ImageAnalysis(
                match.result.name,
                match.result.size,
                {key: float(value) for key, value in metrics.items()},
                outcome,
                float(np.append(match.result.scores, -1).max()),
            )
        )
    return analyses


def _or_nan(value: float) -> float:
    """COCO's -1, not defined, is NaN here."""
    return value if value >= 0 else float("nan")
