"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from custom.workbench.analysis.analysis import Analysis
from custom.workbench.analysis.statistics import Estimate

NONE = "–"
# Key in Analysis.metrics, name, what it is.
_METRICS = (
    ("AP50", "AP50", "masks at IoU 0.5, mean over classes"),
    ("AP", "AP", "masks, mean over IoU 0.5 to 0.95"),
    ("AP75", "AP75", "masks, IoU 0.75"),
    ("precision", "precision", "share of the predictions that are true"),
    ("recall", "recall", "share of the cells that are found"),
    ("F1", "F1", "of precision and recall"),
    ("PQ", "PQ", "images pooled, mean over classes (mPQ+)"),
    ("DQ", "DQ", "its part of detection"),
    ("SQ", "SQ", "its part of segmentation"),
    ("mPQ", "mPQ", "PanNuke: mean over an image's classes, then images"),
    ("bPQ", "bPQ", "PanNuke: without classes, mean over images"),
    ("aPQ", "a-PQ", "MoNuSAC: mean over the images with a class, then classes"),
    ("aPQ_fp", "a-PQ, all false", "the same, also false segments of absent classes"),
    ("DSB", "DSB score", "TP / (TP + FP + FN), IoU 0.5 to 0.95, without classes"),
    ("AJI", "AJI", "without classes, mean over images"),
    ("AJI_plus", "AJI+", "the same, matched one to one"),
    ("Dice", "Dice", "of all pixels of cells, mean over images"),
    ("F_d", "detection F1", "centroids, without classes"),
    ("accuracy", "class accuracy", "of the cells so detected"),
    ("count_mae", "count error", "cells per image and class, absolute"),
    ("count_bias", "count bias", "the same with its sign"),
    ("count_r2", "count R²", "of counts per image, mean over classes"),
)
_IN_CELLS = ("count_mae", "count_bias")
CLASS_HEADERS = (
    ("class", "text"),
    *((n, "number") for n in ("cells", "predicted", "AP50", "AP", "AP75")),
    *((n, "number") for n in ("precision", "recall", "F1", "PQ", "DQ", "SQ", "F_c")),
    ("count bias", "number"),
)


def number(value: float, digits: int = 3) -> str:
    """A metric, or a dash for one that is not defined."""
    return NONE if np.isnan(value) else f"{value:.{digits}f}"


def span(estimate: Estimate | None, digits: int = 3, signed: bool = False) -> str:
    """An interval in one line; empty where there is none."""
    if estimate is None or np.isnan(estimate.low):
        return ""
    sign = "+" if signed else ""
    return f"{estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f}"


def tiles(analysis: Analysis) -> list[tuple[str, str, str]]:
    """The main metrics, each with its interval."""
    rows = [
        (key, number(analysis.metrics[key]), span(analysis.intervals.get(key), 2))
        for key in ("AP50", "AP", "PQ", "AJI", "F1")
    ]
    cells, predictions = (analysis.metrics[key] for key in ("cells", "predictions"))
    return [*rows, ("cells", f"{cells:,.0f}", f"{predictions:,.0f} predicted")]


def metric_rows(analyses: Sequence[Analysis]) -> list[list]:
    """A row for each metric: name, then value and interval of each run, meaning."""
    rows = []
    for key, name, about in _METRICS:
        digits = 1 if key in _IN_CELLS else 3
        values = [
            (number(a.metrics[key], digits), span(a.intervals.get(key)))
            for a in analyses
        ]
        rows.append([name, *values, about])
    return rows


def about_metrics(analysis: Analysis) -> str:
    """How the metrics and intervals were computed, and why some are missing."""
    settings, groups = analysis.settings, len(set(analysis.groups))
    text = (
        f"{len(analysis.images)} validation images. AP counts up "
        f"to {settings['max_dets']:,} predictions per image and class; the other "
        f"metrics use predictions with a score of at least {settings['score_thr']:g} "
        f"and match at mask IoU {settings['iou_thr']:g}. Intervals: 95 %, over "
        f"{groups} {analysis.unit}{'s' * (groups != 1)}."
    )
    missing: dict[str, list[str]] = {}
    for key, estimate in analysis.intervals.items():
        if estimate.reason and not np.isnan(estimate.value):
            missing.setdefault(estimate.reason, []).append(key)
    reasons = [f" No interval of {', '.join(k)}: {r}." for r, k in missing.items()]
    return text + "".join(reasons)


def low_scores(analyses: Mapping[str, Analysis]) -> str:
    """A sentence on runs without a confident prediction; empty if there is none."""
    sentences = []
    for run, analysis in analyses.items():
        best = max(image.max_score for image in analysis.images)
        threshold = analysis.settings["score_thr"]
        if best >= threshold:
            continue
        of_run = f" of {run}" * (len(analyses) > 1)
        reached = f"the highest score is {best:.2f}" if best >= 0 else "there is none"
        sentences.append(
            f"No prediction{of_run} reaches the score {threshold:g}: {reached}. All "
            "metrics but AP and the curves are therefore 0 or undefined. "
            "Train longer, or write the report with a lower --score-thr."
        )
    return " ".join(sentences)


def class_rows(analysis: Analysis) -> list[list]:
    """A row for each class under :data:`CLASS_HEADERS`."""
    intervals = analysis.intervals
    return [
        [
            name,
            f"{row['cells']:,.0f}",
            f"{row['predictions']:,.0f}",
            (number(row["AP50"]), span(intervals.get(f"AP50 {name}"), 2)),
            *(number(row[k]) for k in ("AP", "AP75", "precision", "recall", "F1")),
            (number(row["PQ"]), span(intervals.get(f"PQ {name}"), 2)),
            *(number(row[k]) for k in ("DQ", "SQ", "F_c")),
            number(row["count_bias"], 1),
        ]
        for name, row in analysis.per_class.items()
    ]


def difference_rows(
    first: Mapping[str, Estimate],
    second: Mapping[str, Estimate],
    differences: Mapping[str, Estimate],
    corrected: Mapping[str, float],
) -> list[list]:
    """A row for each metric of two runs: values, difference with interval, p.

    Args:
        first: Of one run, see ``Analysis.intervals``.
        second: Of the other run.
        differences: See :func:`custom.workbench.analysis.analysis.compare`.
        corrected: The p-values, corrected for their number.
    """
    rows = []
    for key, gap in differences.items():
        change = NONE if np.isnan(gap.value) else f"{gap.value:+.3f}"
        values = (number(first[key].value), number(second[key].value))
        interval = span(gap, signed=True) or "no interval" * bool(gap.reason)
        rows.append([key, *values, (change, interval), number(corrected[key])])
    return rows
