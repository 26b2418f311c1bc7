"""The tables and charts of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from custom.workbench.analysis.analysis import (
    Analysis,
    Comparison,
    Interval,
    RecallBins,
)
from custom.workbench.analysis.outcomes import CELL_OUTCOMES, PREDICTION_OUTCOMES
from custom.workbench.report.figures import axes, by_class, run_color
from custom.workbench.report.page import Chart, chart
from custom.workbench.report.theme import DASHES, OUTCOMES_IN_CHARTS, Color, css

NONE = "–"
# Key in Analysis.figures, name, what it is.
FIGURES = (
    ("AP50", "AP50", "masks at IoU 0.5, mean over classes"),
    ("AP", "AP", "masks, mean over IoU 0.5 to 0.95"),
    ("AP75", "AP75", "masks, IoU 0.75"),
    ("precision", "precision", "true of all predictions"),
    ("recall", "recall", "found of all cells"),
    ("F1", "F1", "of precision and recall"),
    ("PQ", "PQ", "images pooled, mean over classes (mPQ+)"),
    ("DQ", "DQ", "its part of detection"),
    ("SQ", "SQ", "its part of segmentation"),
    ("PQ_image", "PQ of images", "mean over images, then classes (mPQ)"),
    ("PQ_binary", "PQ without classes", "mean over images (bPQ)"),
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


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash for one that is not defined."""
    return NONE if value is None else f"{value:.{digits}f}"


def span(interval: Interval | None, digits: int = 3, signed: bool = False) -> str:
    """An interval in one line."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f}"


def unit(analysis: Analysis) -> str:
    """What the intervals are over: patients where they are known, else images."""
    return "patients" if "patients" in analysis.intervals else "images"


def tiles(analysis: Analysis) -> list[tuple[str, str, str]]:
    """The figures that come first, each with its interval."""
    intervals = analysis.intervals[unit(analysis)]
    rows = [
        (key, number(analysis.figures[key]), span(intervals.get(key), 2))
        for key in ("AP50", "AP", "PQ", "AJI", "F1")
    ]
    cells, found = analysis.figures["cells"], analysis.figures["predictions"]
    return [*rows, ("cells", f"{cells:,.0f}", f"{found:,.0f} predicted")]


def figure_rows(analyses: Sequence[Analysis]) -> list[list]:
    """A row for each figure: name, then value and interval of each run, meaning."""
    rows = []
    for key, name, about in FIGURES:
        digits = 1 if key in _IN_CELLS else 3
        values = [
            (number(a.figures[key], digits), span(a.intervals[unit(a)].get(key)))
            for a in analyses
        ]
        rows.append([name, *values, about])
    return rows


CLASS_HEADERS = (
    ("class", "text"),
    *((n, "number") for n in ("cells", "predicted", "AP50", "AP", "AP75")),
    *((n, "number") for n in ("precision", "recall", "F1", "PQ", "DQ", "SQ", "F_c")),
    ("count bias", "number"),
)


def class_rows(analysis: Analysis) -> list[list]:
    """A row for each class under :data:`CLASS_HEADERS`."""
    intervals = analysis.intervals[unit(analysis)]
    return [
        [
            name,
            f"{own['cells']:,.0f}",
            f"{own['predictions']:,.0f}",
            (number(own["AP50"]), span(intervals.get(f"AP50 {name}"), 2)),
            *(number(own[k]) for k in ("AP", "AP75", "precision", "recall", "F1")),
            (number(own["PQ"]), span(intervals.get(f"PQ {name}"), 2)),
            *(number(own[k]) for k in ("DQ", "SQ", "F_c")),
            number(own["count_bias"], 1),
        ]
        for name, own in analysis.per_class.items()
    ]


def confusion(analysis: Analysis) -> Chart:
    """The confusion matrix; colours are shares of a row, texts are counts."""
    counts = np.array(analysis.confusion)
    # Nothing is background in both.
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
            x=curve.recall,
            y=curve.precision,
            customdata=[NONE if s is None else f"{s:.2f}" for s in curve.score],
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
        own = analysis.calibration
        bins = [i for i, count in enumerate(own.counts) if count]
        figure.add_scatter(
            x=[own.score[i] for i in bins],
            y=[own.precision[i] for i in bins],
            customdata=[own.counts[i] for i in bins],
            mode="lines+markers",
            line={"color": run_color(place), "width": 2},
            marker={"size": 6},
            name=f"{run}, ECE {number(own.ece)}",
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
    """Bars of what became of the cells or the predictions of each class.

    Args:
        analysis: Of a run.
        of: ``'cells'`` or ``'predictions'``.
    """
    if of == "cells":
        counts, names = analysis.cell_outcomes, CELL_OUTCOMES
        caption = "What became of the cells of each class."
    else:
        counts = analysis.prediction_outcomes
        names = [n for n in PREDICTION_OUTCOMES if n != "low score"]
        caption = "What the predictions of each class are."
    names = [n for n in names if any(counts[c].get(n) for c in counts)]
    totals = [max(1, sum(counts[c].get(n, 0) for n in names)) for c in counts]
    figure = go.Figure(
        layout=axes("share in %", "", barmode="stack", hovermode="closest")
    )
    for name in names:
        own = [counts[c].get(name, 0) for c in counts]
        figure.add_bar(
            x=[100 * n / total for n, total in zip(own, totals, strict=True)],
            y=list(counts),
            customdata=own,
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
    """Recall of kinds of cells, of one run or several; below a kind its cells."""
    first = next(iter(bins.values()))
    kinds = [i for i, count in enumerate(first.counts) if count]

    def short(name: str) -> str:
        return name.replace(" px", "").replace(" and more", "+")

    figure = go.Figure(layout=axes(x, "recall", barmode="group"))
    for place, (run, own) in enumerate(bins.items()):
        figure.add_bar(
            x=[f"{short(own.names[i])}<br>{own.counts[i]:,}" for i in kinds],
            y=[own.recall[i] for i in kinds],
            customdata=[own.counts[i] for i in kinds],
            name=run,
            marker={"color": run_color(place)},
            hovertemplate="%{y:.3f} of %{customdata:,} cells",
        )
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category", tickangle=0)
    figure.update_layout(showlegend=len(bins) > 1)
    return chart(figure, label, "Below a kind: how many cells it has.", height=270)


def difference_rows(comparison: Comparison) -> list[list[str]]:
    """A row for each figure of two runs: values, difference with interval, p."""
    rows = []
    for name, own in comparison.differences.items():
        gap = own.difference
        change = NONE if gap.value is None else f"{gap.value:+.3f}"
        rows.append(
            [
                name,
                number(own.first),
                number(own.second),
                (change, span(gap, signed=True)),
                number(own.p_value),
            ]
        )
    return rows


def difference_chart(comparison: Comparison, first: str, second: str) -> Chart:
    """Differences with their intervals around zero."""
    rows = [
        (name, own.difference)
        for name, own in comparison.differences.items()
        if own.difference.value is not None
    ]
    figure = go.Figure(layout=axes(f"{second} minus {first}", "", hovermode="closest"))
    figure.add_vline(x=0, line={"color": "#8d95a1", "width": 1})
    figure.add_scatter(
        x=[gap.value for _, gap in rows],
        y=[name for name, _ in rows],
        mode="markers",
        marker={"color": run_color(1), "size": 8},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [(gap.high or gap.value) - gap.value for _, gap in rows],
            "arrayminus": [gap.value - (gap.low or gap.value) for _, gap in rows],
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
        "Points right of the line speak for the second run; an interval that crosses "
        "it leaves open which is better.",
        height=110 + 26 * len(rows),
    )
