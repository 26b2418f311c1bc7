"""The analysis of a run: every figure and every error, ready for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from custom.errors import InputError
from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.detection import (
    centroid_counts,
    centroid_figures,
    count_errors,
    detection_counts,
    precision_recall_f1,
)
from custom.evaluation.matching import IOU_THR, ImageMatch, match_image
from custom.evaluation.panoptic import aji, aji_plus, dice, panoptic_quality, pq_counts
from custom.workbench.analysis.breakdown import (
    calibrate,
    confusion,
    neighbours,
    recall_in_bins,
)
from custom.workbench.analysis.image_result import ImageResult
from custom.workbench.analysis.outcomes import (
    CELL_OUTCOMES,
    PREDICTION_OUTCOMES,
    Outcomes,
    find_outcomes,
)
from custom.workbench.analysis.resampling import (
    RECALLS,
    Sample,
    bootstrap_weights,
    exchanges,
    interval,
    mean_of_known,
    p_value,
    units_of,
)

_SIZES = (0, 8, 12, 16, 24, 32, 48, 64, 96)  # px, the root of the area
_CROWD = (0, 1, 2, 3, 4, 5)
# Resampling fewer patients says nothing.
_FEWEST_PATIENTS = 5


@dataclass
class Interval:
    """A figure and its bootstrap interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass
class Curve:
    """Precision over recall of one class at mask IoU 0.5, as COCO computes it.

    Attributes:
        recall: 101 values, 0 to 1.
        precision: 101 values, the interpolated precision at that recall.
        score: 101 values, the score threshold that reaches that recall, None where
            none does.
        ap50: Mean of ``precision``; None without cells of the class.
        best_f1: The largest F1 that any score threshold gives.
        best_score: That threshold.
    """

    recall: list[float]
    precision: list[float]
    score: list[float | None]
    ap50: float | None
    best_f1: float | None
    best_score: float | None


@dataclass
class Calibration:
    """Scores against the share of predictions that are true, see ``calibration``.

    Attributes:
        edges: B + 1 bounds of the score bins.
        counts: B numbers of predictions.
        score: B mean scores, None for an empty bin.
        precision: B shares of true predictions, None for an empty bin.
        ece: Expected calibration error.
    """

    edges: list[float]
    counts: list[int]
    score: list[float | None]
    precision: list[float | None]
    ece: float | None


@dataclass
class RecallBins:
    """Recall of the cells of each kind.

    Attributes:
        names: What the cells of a bin have in common, for example ``'16-24 px'``.
        counts: Cells of each bin.
        recall: Share of them that was found (outcome true), None for an empty bin.
    """

    names: list[str]
    counts: list[int]
    recall: list[float | None]


@dataclass
class ImageAnalysis:
    """Figures of one image and what became of each of its cells and predictions.

    Attributes:
        name: The image's name.
        patient: Its patient, None where not known.
        size: (H, W) in pixels.
        figures: ``AP50, PQ, AJI, AJI_plus, Dice, precision, recall, F1, cells,
            predictions``; the first is the mean over the classes that the image has,
            PQ is that of all classes together (each match needs the right class).
        cell_outcomes: One of
            ``custom.workbench.analysis.outcomes.CELL_OUTCOMES`` for each of the
            G cells, in the order of ``ImageResult.gt``.
        cell_partners: For each cell the prediction that its outcome is about (its
            match, or the one that overlaps it most), -1 for none.
        prediction_outcomes: One of ``PREDICTION_OUTCOMES`` for each of the P
            predictions, in the order of ``ImageResult.rles``; those below the score
            threshold are ``'low score'``.
        prediction_partners: For each prediction the cell that its outcome is about,
            -1 for none.
    """

    name: str
    patient: str | None
    size: tuple[int, int]
    figures: dict[str, float | None]
    cell_outcomes: list[str]
    cell_partners: list[int]
    prediction_outcomes: list[str]
    prediction_partners: list[int]


@dataclass
class Analysis:
    """The analysis of a run on a set of images. See docs/metrics.md for definitions.

    Attributes:
        classes: Names of the classes.
        settings: ``score_thr, iou_thr, max_dets, resamples, seed, images, patients``
            (None where not known).
        coco: ``{'bbox': {...}, 'segm': {...}}``, the figures of ``average_precision``.
        figures: Of all classes: ``AP, AP50, AP75`` (masks), ``precision, recall, F1``
            (all classes together), ``PQ, DQ, SQ`` (pooled over images, mean over
            classes: mPQ+), ``PQ_image`` (mean over images, then classes: mPQ),
            ``PQ_binary`` (without classes, mean over images: bPQ), ``AJI, AJI_plus,
            Dice`` (without classes, mean over images), ``F_d`` and ``accuracy`` (of
            detection by centroid, and of the classes of what was detected),
            ``count_mae, count_bias, count_r2`` (mean over classes), ``cells,
            predictions, ECE``.
        per_class: For each class ``AP, AP50, AP75, precision, recall, F1, best_F1,
            best_score, PQ, DQ, SQ, PQ_image, F_c, count_mae, count_bias, count_r2,
            cells, predictions``.
        intervals: ``{'images': {figure: Interval}, 'patients': {...}}``, 95 %, for
            ``AP50, PQ, AJI, F1`` and ``AP50 <class>``, ``PQ <class>``; ``'patients'``
            only where at least five are known.
        confusion: (C + 1) x (C + 1) counts; rows: class of the cell, columns: class of
            the prediction, last: background.
        cell_outcomes: ``{class: {outcome: count}}``.
        prediction_outcomes: ``{class: {outcome: count}}``.
        curves: ``{class: Curve}``.
        calibration: Of all predictions, whatever their score.
        recall_by_size: By the root of the area in pixels.
        recall_by_crowding: By the number of neighbours.
        images: One entry for each image, in the order given.
    """

    classes: list[str]
    settings: dict[str, float | int | None]
    coco: dict[str, dict[str, float]]
    figures: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    intervals: dict[str, dict[str, Interval]]
    confusion: list[list[int]]
    cell_outcomes: dict[str, dict[str, int]]
    prediction_outcomes: dict[str, dict[str, int]]
    curves: dict[str, Curve]
    calibration: Calibration
    recall_by_size: RecallBins
    recall_by_crowding: RecallBins
    images: list[ImageAnalysis]
    # What a comparison needs; not part of the JSON.
    sample: Sample = field(repr=False)

    def to_dict(self) -> dict:
        """All of it as JSON takes it: no NaN, no arrays."""
        data = asdict(replace(self, sample=None))
        del data["sample"]
        return data


@dataclass
class Difference:
    """One figure of two runs on the same images.

    Attributes:
        first, second: The figure of each run.
        difference: Second minus first, with the 95 % interval of a paired bootstrap.
        p_value: Of a permutation test (two-sided): how often exchanging the runs on
            random images gives a difference as large; None where not defined.
    """

    first: float | None
    second: float | None
    difference: Interval
    p_value: float | None


@dataclass
class Comparison:
    """Two runs on the same images.

    Attributes:
        unit: ``'image'`` or ``'patient'``: what is resampled and exchanged.
        units: How many there are.
        differences: ``{figure: Difference}``, the figures of ``Analysis.intervals``.
        images: ``{name: {figure: second minus first}}``, for ``AP50, PQ, AJI, F1``.
    """

    unit: str
    units: int
    differences: dict[str, Difference]
    images: dict[str, dict[str, float | None]]


def analyse(
    images: Sequence[ImageResult],
    classes: Sequence[str],
    score_thr: float = 0.5,
    max_dets: int = 1000,
    patient_of: Mapping[str, str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Analysis:
    """Compute every figure of a set of images.

    Args:
        images: See :func:`custom.workbench.analysis.image_result.load_results`.
        classes: Names of the classes in the order of the labels.
        score_thr: Predictions from this score on count in all figures that need a
            decision: all but AP, curves and calibration.
        max_dets: Predictions per image and class that count for AP.
        patient_of: Patient of each image by its name, see
            :func:`custom.datasets.splits.patients_from_names`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    found = [
        match_image(image, score_thr)
        for image in tqdm(images, desc="match", unit="image", delay=1, leave=False)
    ]
    n_classes = len(classes)
    rows = [image.coco_row(i) for i, image in enumerate(images, 1)]
    coco = {
        kind: average_precision(rows, classes, kind, max_dets)
        for kind in ("bbox", "segm")
    }
    sample = gather(found, n_classes, max_dets)
    outcomes = [find_outcomes(image) for image in found]
    patients = None
    if patient_of is not None:
        patients = [patient_of[image.name] for image in images]
    units = {"images": [image.name for image in images]}
    if patients is not None and len(set(patients)) >= _FEWEST_PATIENTS:
        units["patients"] = patients
    overlap = {
        "AJI": sample.aji,
        "AJI_plus": np.array([aji_plus(m.segment_table) for m in found]),
        "Dice": np.array([dice(m) for m in found]),
    }
    figures, per_class = _figures(found, sample, overlap, coco["segm"], classes)
    calibration = _calibration(found)
    figures["ECE"] = calibration.ece
    return Analysis(
        classes=list(classes),
        settings={
            "score_thr": score_thr,
            "iou_thr": IOU_THR,
            "max_dets": max_dets,
            "resamples": resamples,
            "seed": seed,
            "images": len(images),
            "patients": None if patients is None else len(set(patients)),
        },
        coco=coco,
        figures=figures,
        per_class=per_class,
        intervals={
            unit: _intervals(
                sample, bootstrap_weights(units_of(names), resamples, seed), classes
            )
            for unit, names in units.items()
        },
        confusion=sum(
            confusion(o, f.result.gt_labels, f.result.labels, n_classes)
            for o, f in zip(outcomes, found, strict=True)
        ).tolist(),
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
        **_recall_bins(found, outcomes),
        images=_images(found, outcomes, sample, overlap, patients),
        sample=sample,
    )


def compare(first: Analysis, second: Analysis) -> Comparison:
    """Compare two analyses of the same images, paired.

    The units are patients where the first knows five or more, else images. Number and
    seed of the resamples are those of ``first``. The interval is that of a bootstrap
    which draws the same units for both runs; the test exchanges the runs' results on
    random units (approximate randomisation, Noreen, 1989), or in all ways where these
    are few.

    Raises:
        InputError: They are of different images or classes.
    """
    names = [image.name for image in first.images]
    if names != [image.name for image in second.images] or (
        first.classes != second.classes
    ):
        raise InputError(
            "comparison",
            "the two runs were evaluated on different images or classes",
            "Compare runs of one split",
        )
    patients = [image.patient for image in first.images]
    known = None not in patients and len(set(patients)) >= _FEWEST_PATIENTS
    units = units_of(patients if known else names)
    resamples, seed = first.settings["resamples"], first.settings["seed"]
    classes = first.classes
    weights = bootstrap_weights(units, resamples, seed)
    drawn = [run.sample.figures(weights, classes) for run in (first, second)]
    both = Sample.cat(first.sample, second.sample)
    swap, exhaustive = exchanges(units, resamples, seed)
    swapped = [
        both.figures(np.concatenate(parts, axis=1), classes)
        for parts in ((1 - swap, swap), (swap, 1 - swap))
    ]
    every = np.ones((1, len(names)))
    values = [run.sample.figures(every, classes) for run in (first, second)]
    differences = {}
    for key in values[0]:
        a, b = (float(value[key][0]) for value in values)
        low, high = interval(drawn[1][key] - drawn[0][key])
        p = p_value(b - a, swapped[1][key] - swapped[0][key], exhaustive)
        differences[key] = Difference(
            _number(a), _number(b), _interval(b - a, low, high), _number(p)
        )
    return Comparison(
        "patient" if known else "image",
        len(units),
        differences,
        {
            a.name: {
                key: None
                if None in (a.figures[key], b.figures[key])
                else b.figures[key] - a.figures[key]
                for key in ("AP50", "PQ", "AJI", "F1")
            }
            for a, b in zip(first.images, second.images, strict=True)
        },
    )


def gather(found: Sequence[ImageMatch], n_classes: int, max_dets: int) -> Sample:
    """Gather what the figures are made of."""
    image, label, score, true = [], [], [], []
    for i, match in enumerate(found):
        labels, scores = match.result.labels, match.result.scores
        # COCO takes the best of each class, and drops ignored ones after that.
        order = np.lexsort((-scores, labels))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(
            labels[order], labels[order]
        )
        keep = (rank < max_dets) & ~match.ignored
        image.append(np.full(keep.sum(), i))
        label.append(labels[keep])
        score.append(scores[keep])
        true.append(match.match[keep] >= 0)
    return Sample(
        *(np.concatenate(part) for part in (image, label, score, true)),
        np.stack([np.bincount(m.result.gt_labels, minlength=n_classes) for m in found]),
        np.stack(
            [
                pq_counts(
                    m.segment_table,
                    m.result.gt_labels,
                    m.result.labels[m.segment_of],
                    n_classes,
                )
                for m in found
            ]
        ),
        np.stack([detection_counts(m, n_classes) for m in found]),
        np.array([aji(m.segment_table) for m in found]),
    )


def _figures(
    found: Sequence[ImageMatch],
    sample: Sample,
    overlap: Mapping[str, np.ndarray],
    coco: Mapping[str, float],
    classes: Sequence[str],
) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """The figures of all classes and of each, see :class:`Analysis`."""
    n_classes = len(classes)
    pq, dq, sq = panoptic_quality(sample.panoptic.sum(axis=0))
    # PanNuke's mPQ: an image counts for the classes that it has.
    per_image = panoptic_quality(sample.panoptic)[0]
    pq_image = mean_of_known(np.where(sample.cells > 0, per_image, np.nan).T)
    binary = panoptic_quality(np.stack([_binary_counts(m) for m in found]))[0]
    f_d, accuracy, f_c = centroid_figures(
        sum(centroid_counts(m, n_classes) for m in found)
    )
    predictions = sample.detection[..., :2].sum(axis=-1)
    counting = count_errors(sample.cells, predictions)
    # The three, each of all classes together and of each class.
    detection = sample.detection.sum(axis=0)
    pooled = precision_recall_f1(detection.sum(axis=0))
    single = precision_recall_f1(detection)
    best = [sample.best_f1(k) for k in range(n_classes)]
    names = ("precision", "recall", "F1")
    figures = {
        "AP": _average_precision(coco["mAP"]),
        "AP50": _average_precision(coco["mAP_50"]),
        "AP75": _average_precision(coco["mAP_75"]),
        **dict(zip(names, pooled, strict=True)),
        "PQ": mean_of_known(pq),
        "DQ": mean_of_known(dq),
        "SQ": mean_of_known(sq),
        "PQ_image": mean_of_known(pq_image),
        "PQ_binary": mean_of_known(binary),
        **{key: mean_of_known(values) for key, values in overlap.items()},
        "F_d": f_d,
        "accuracy": accuracy,
        **{key: mean_of_known(value) for key, value in counting.items()},
        "cells": int(sample.cells.sum()),
        "predictions": int(predictions.sum()),
    }
    per_class = {
        name: {
            "AP": _average_precision(coco[f"mAP_{name}"]),
            "AP50": _average_precision(coco[f"mAP_50_{name}"]),
            "AP75": _average_precision(coco[f"mAP_75_{name}"]),
            **{key: value[k] for key, value in zip(names, single, strict=True)},
            "best_F1": best[k][0],
            "best_score": best[k][1],
            "PQ": pq[k],
            "DQ": dq[k],
            "SQ": sq[k],
            "PQ_image": pq_image[k],
            "F_c": f_c[k],
            **{key: value[k] for key, value in counting.items()},
            "cells": int(sample.cells[:, k].sum()),
            "predictions": int(predictions[:, k].sum()),
        }
        for k, name in enumerate(classes)
    }
    return _numbers(figures), {k: _numbers(v) for k, v in per_class.items()}


def _binary_counts(match: ImageMatch) -> np.ndarray:
    """(4,) as :func:`pq_counts`, without classes."""
    cells = np.zeros(len(match.result.gt), np.int64)
    segments = np.zeros(len(match.segments), np.int64)
    return pq_counts(match.segment_table, cells, segments, 1)[0]


def _intervals(
    sample: Sample, weights: np.ndarray, classes: Sequence[str]
) -> dict[str, Interval]:
    """Each figure with its bootstrap interval."""
    values = sample.figures(np.ones((1, len(sample.cells))), classes)
    drawn = sample.figures(weights, classes)
    return {key: _interval(values[key][0], *interval(drawn[key])) for key in values}


def _curve(sample: Sample, k: int) -> Curve:
    precision, score = sample.precision_recall(k)
    best_f1, best_score = sample.best_f1(k)
    return Curve(
        RECALLS.tolist(),
        [_number(v) for v in precision],
        [_number(v) for v in score],
        _number(precision.mean()),
        _number(best_f1),
        _number(best_score),
    )


def _calibration(found: Sequence[ImageMatch]) -> Calibration:
    """Of all predictions that are not ignored."""
    keep = [~m.ignored for m in found]
    counts, score, share, error = calibrate(
        np.concatenate([m.result.scores[k] for m, k in zip(found, keep, strict=True)]),
        np.concatenate([m.match[k] >= 0 for m, k in zip(found, keep, strict=True)]),
    )
    return Calibration(
        np.linspace(0, 1, len(counts) + 1).tolist(),
        counts.tolist(),
        [_number(v) for v in score],
        [_number(v) for v in share],
        _number(error),
    )


def _recall_bins(
    found: Sequence[ImageMatch], outcomes: Sequence[Outcomes]
) -> dict[str, RecallBins]:
    """Recall by the root of the area, and by the number of neighbours."""
    true = np.concatenate([o.cells == "true" for o in outcomes])
    size = np.sqrt(np.concatenate([m.table.gt_areas for m in found]))
    crowd = np.concatenate([neighbours(m.result.gt) for m in found])
    names = [f"{a}-{b} px" for a, b in pairwise(_SIZES)]
    return {
        "recall_by_size": _bins(
            size, true, _SIZES, [*names, f"{_SIZES[-1]} px and more"]
        ),
        "recall_by_crowding": _bins(
            crowd, true, _CROWD, [*map(str, _CROWD[:-1]), f"{_CROWD[-1]} and more"]
        ),
    }


def _bins(
    values: np.ndarray, true: np.ndarray, edges: Sequence[int], names: list[str]
) -> RecallBins:
    counts, recall = recall_in_bins(values, true, edges)
    return RecallBins(names, counts.tolist(), [_number(v) for v in recall])


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
    found: Sequence[ImageMatch],
    outcomes: Sequence[Outcomes],
    sample: Sample,
    overlap: Mapping[str, np.ndarray],
    patients: Sequence[str] | None,
) -> list[ImageAnalysis]:
    ap50 = mean_of_known(sample.ap50(np.eye(len(found))))
    pq = panoptic_quality(sample.panoptic.sum(axis=1))[0]
    precision, recall, f1 = precision_recall_f1(sample.detection.sum(axis=1))
    return [
        ImageAnalysis(
            match.result.name,
            None if patients is None else patients[i],
            match.result.size,
            _numbers(
                {
                    "AP50": ap50[i],
                    "PQ": pq[i],
                    **{key: values[i] for key, values in overlap.items()},
                    "precision": precision[i],
                    "recall": recall[i],
                    "F1": f1[i],
                    "cells": len(match.result.gt),
                    "predictions": int(match.used.sum()),
                }
            ),
            outcome.cells.tolist(),
            outcome.cell_partners.tolist(),
            outcome.predictions.tolist(),
            outcome.prediction_partners.tolist(),
        )
        for i, (match, outcome) in enumerate(zip(found, outcomes, strict=True))
    ]


def _number(value: float) -> float | None:
    """A number as JSON takes it."""
    return None if np.isnan(value) else float(value)


def _numbers(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        key: value if value is None or isinstance(value, int) else _number(value)
        for key, value in figures.items()
    }


def _interval(value: float, low: float, high: float) -> Interval:
    return Interval(_number(value), _number(low), _number(high))


def _average_precision(value: float) -> float | None:
    """COCO's -1 is None here."""
    return value if value >= 0 else None
