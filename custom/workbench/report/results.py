"""The tables and charts of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from custom.workbench.analysis.analysis import Analysis, RecallBins
from custom.workbench.analysis.outcomes import CELL_OUTCOMES, PREDICTION_OUTCOMES
from custom.workbench.analysis.statistics import Estimate
from custom.workbench.report.figures import axes, by_class, run_color
from custom.workbench.report.page import Chart, chart
from custom.workbench.report.theme import DASHES, OUTCOMES_IN_CHARTS, Color, css

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
    ("ECE", "calibration error", "of scores, expected (ECE)"),
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
        f"{len(analysis.images)} validation images. AP counts "
        f"{settings['max_dets']:,} predictions of an image and class; everything that "
        f"needs a decision takes predictions of score {settings['score_thr']:g} and "
        f"more, and mask IoU {settings['iou_thr']:g}. Intervals: 95 %, over {groups} "
        f"{analysis.unit}{'s' * (groups != 1)}."
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
            "metrics but AP, curves and calibration are therefore 0 or not defined. "
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


def confusion(analysis: Analysis) -> Chart:
    """The confusion matrix; colours are shares of a row, texts are counts."""
    counts = analysis.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = np.array([[f"{n:,}" for n in row] for row in counts.tolist()])
    text[-1, -1] = ""
    figure = go.Figure(layout=axes("prediction", "cell", hovermode="closest"))
    figure.add_heatmap(
        z=share,
        x=[*analysis.classes, "nothing"],
        y=[*analysis.classes, "nothing"],
        text=text,
        texttemplate="%{text}",
        customdata=share * 100,
        hovertemplate="cell %{y}, predicted %{x}<br>%{text}, %{customdata:.1f} % of "
        "the row<extra></extra>",
        colorscale=[[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,0.5)"]],
        showscale=False,
        xgap=1,
        ygap=1,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, side="top")
    figure.update_layout(margin={"t": 56, "b": 12})
    return chart(
        figure,
        "Confusion matrix of classes",
        "Matched at mask IoU 0.5, first within a class, then across. A row is what the "
        "cells are, a column what they were predicted as; shades are shares of a row.",
    )


def precision_recall(analysis: Analysis, palette: Sequence[Color]) -> Chart:
    """Precision over recall of each class."""
    figure = go.Figure(layout=axes("recall", "precision"))
    for place, (name, curve) in enumerate(analysis.curves.items()):
        figure.add_scatter(
            x=curve.recall.tolist(),
            y=curve.precision.tolist(),
            customdata=[number(score, 2) for score in curve.score],
            name=f"{name}, {number(curve.ap50)}",
            mode="lines",
            line={"width": 2, "dash": DASHES[place % len(DASHES)]},
            hovertemplate="%{y:.3f} at score %{customdata}",
        )
    figure.update_xaxes(range=[0, 1], hoverformat=".2f")
    figure.update_yaxes(range=[0, 1.02])
    return chart(
        by_class(figure, palette),
        "Precision against recall of each class",
        "Mask IoU 0.5, interpolated as COCO does; beside a class its AP50.",
    )


def calibration(analyses: Mapping[str, Analysis]) -> Chart:
    """Share of true predictions against their score."""
    figure = go.Figure(layout=axes("score", "share that is true"))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "#8d95a1", "width": 1, "dash": "dot"},
        name="perfect",
        hoverinfo="skip",
    )
    for place, (run, analysis) in enumerate(analyses.items()):
        bins = analysis.calibration
        filled = bins.counts > 0
        figure.add_scatter(
            x=bins.score[filled].tolist(),
            y=bins.precision[filled].tolist(),
            customdata=bins.counts[filled].tolist(),
            mode="lines+markers",
            line={"color": run_color(place), "width": 2},
            marker={"size": 6},
            name=f"{run}, ECE {number(bins.ece)}",
            hovertemplate="%{y:.2f} of %{customdata:,}",
        )
    figure.update_xaxes(range=[0, 1], hoverformat=".2f")
    figure.update_yaxes(range=[0, 1.02])
    return chart(
        figure,
        "Share of true predictions against their score",
        "Below the dotted line scores promise too much.",
    )


def outcomes(analysis: Analysis, of: str) -> Chart:
    """Bars of the outcomes of the cells or the predictions of each class.

    Args:
        analysis: Of a run.
        of: ``'cells'`` or ``'predictions'``.
    """
    if of == "cells":
        counts, names = analysis.cell_outcomes, CELL_OUTCOMES
        caption = "Outcomes of the cells of each class."
    else:
        counts = analysis.prediction_outcomes
        names = [n for n in PREDICTION_OUTCOMES if n != "low score"]
        caption = "Outcomes of the predictions of each class."
    names = [n for n in names if any(counts[c].get(n) for c in counts)]
    totals = [max(1, sum(counts[c].get(n, 0) for n in names)) for c in counts]
    figure = go.Figure(
        layout=axes("share in %", "", barmode="stack", hovermode="closest")
    )
    for name in names:
        of_class = [counts[c].get(name, 0) for c in counts]
        figure.add_bar(
            x=[100 * n / total for n, total in zip(of_class, totals, strict=True)],
            y=list(counts),
            customdata=of_class,
            name=name,
            orientation="h",
            marker={"color": css(OUTCOMES_IN_CHARTS[name])},
            hovertemplate="%{y}: %{customdata:,} " + name + ", %{x:.1f} %"
            "<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(range=[0, 100])
    figure.update_layout(showlegend=True, legend={"traceorder": "normal"})
    return chart(figure, caption, height=120 + 34 * len(counts))


def recall(bins: Mapping[str, RecallBins], x: str, label: str) -> Chart:
    """Recall of groups of cells, of one run or several; below a group its cells."""
    first = next(iter(bins.values()))
    filled = np.flatnonzero(first.counts)

    def short(name: str) -> str:
        return name.replace(" px", "").replace(" and more", "+")

    figure = go.Figure(layout=axes(x, "recall", barmode="group"))
    for place, (run, of_run) in enumerate(bins.items()):
        figure.add_bar(
            x=[f"{short(of_run.names[i])}<br>{of_run.counts[i]:,}" for i in filled],
            y=of_run.recall[filled].tolist(),
            customdata=of_run.counts[filled].tolist(),
            name=run,
            marker={"color": run_color(place)},
            hovertemplate="%{y:.3f} of %{customdata:,} cells",
        )
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category", tickangle=0)
    figure.update_layout(showlegend=len(bins) > 1)
    return chart(figure, label, "Below a group: its number of cells.", height=270)


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


def difference_chart(
    differences: Mapping[str, Estimate], first: str, second: str
) -> Chart:
    """Differences with their intervals around zero."""
    rows = {k: gap for k, gap in differences.items() if not np.isnan(gap.value)}
    margins = np.array([(g.high - g.value, g.value - g.low) for g in rows.values()])
    above, below = np.nan_to_num(margins.reshape(-1, 2)).T.tolist()
    figure = go.Figure(layout=axes(f"{second} minus {first}", "", hovermode="closest"))
    figure.add_vline(x=0, line={"color": "#8d95a1", "width": 1})
    figure.add_scatter(
        x=[gap.value for gap in rows.values()],
        y=list(rows),
        mode="markers",
        marker={"color": run_color(1), "size": 8},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "color": run_color(1),
            "thickness": 1.5,
            "width": 4,
        },
        hovertemplate="%{y}: %{x:+.3f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed")
    return chart(
        figure,
        f"Differences between {second} and {first} with intervals",
        "Points right of the line speak for the second run. A point without a line "
        "has no interval.",
        height=110 + 26 * len(rows),
    )
