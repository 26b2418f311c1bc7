"""The charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from custom.workbench.analysis.analysis import Analysis
from custom.workbench.analysis.sample import RECALLS
from custom.workbench.analysis.statistics import Estimate
from custom.workbench.report.page import chart
from custom.workbench.report.tables import number
from custom.workbench.report.theme import (
    DASHES,
    OUTCOMES_IN_CHARTS,
    RUNS,
    Color,
    class_colorways,
    css,
)

# The steps and the values of a scalar.
Series = tuple[Sequence[float], Sequence[float]]


def axes(x: str, y: str, **layout) -> go.Layout:
    """A layout with the titles of its axes."""
    return go.Layout(xaxis={"title": {"text": x}}, yaxis={"title": {"text": y}}).update(
        layout
    )


def run_color(number: int) -> str:
    """Colour of the n-th run of a page."""
    return css(RUNS[number % len(RUNS)])


def by_class(figure: go.Figure, palette: Sequence[Color]) -> go.Figure:
    """Give the first traces of a figure the classes' colours, one each."""
    return figure.update_layout(meta={"colorways": class_colorways(palette)})


def curves(
    heading: str, runs: Mapping[str, Mapping[str, Series]], y: str, scale: str
) -> dict:
    """Scalars against the iteration; of several runs each has a colour.

    Args:
        heading: What they are.
        runs: For each run its scalars by the name that the legend shows.
        y: Title of the y axis.
        scale: Of the y axis: ``'log'``, ``'unit'`` (0 to 1) or ``'linear'`` from 0 on.
    """
    names = list(dict.fromkeys(name for scalars in runs.values() for name in scalars))
    several = len(runs) > 1
    figure = go.Figure(layout=axes("iteration", y, showlegend=True))
    for color, (run, scalars) in enumerate(runs.items()):
        for name, (steps, values) in scalars.items():
            place = names.index(name)
            figure.add_scatter(
                x=list(steps),
                y=list(values),
                name=f"{run}: {name}" if several else name,
                mode="lines" if len(steps) > 20 else "lines+markers",
                line={
                    "color": run_color(color if several else place),
                    "dash": DASHES[place % len(DASHES)],
                },
                hovertemplate="%{y:.4g}",
            )
    figure.update_xaxes(rangemode="tozero")
    scales = {"log": {"type": "log"}, "unit": {"range": [0, 1]}}
    figure.update_yaxes(scales.get(scale, {"rangemode": "tozero"}))
    return chart(figure, f"{heading} against the iteration")


def precision_recall(analysis: Analysis, palette: Sequence[Color]) -> dict:
    """Precision over recall of each class."""
    figure = go.Figure(layout=axes("recall", "precision"))
    each_once = np.ones(len(analysis.images))
    for k, name in enumerate(analysis.classes):
        precision, scores = analysis.sample.curve(k, each_once)
        figure.add_scatter(
            x=RECALLS.tolist(),
            y=precision.tolist(),
            customdata=[number(score, 2) for score in scores],
            name=f"{name}, {number(analysis.per_class[name]['AP50'])}",
            mode="lines",
            line={"dash": DASHES[k % len(DASHES)]},
            hovertemplate="%{y:.3f} at score %{customdata}",
        )
    figure.update_xaxes(range=[0, 1], hoverformat=".2f")
    figure.update_yaxes(range=[0, 1.02])
    return chart(
        by_class(figure, palette),
        "Precision against recall of each class",
        "Mask IoU 0.5, interpolated as COCO does; beside a class its AP50.",
    )


def confusion(analysis: Analysis) -> dict:
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


def outcomes(counts: Mapping[str, Mapping[str, int]], of: str) -> dict:
    """Bars of the outcomes of each class.

    Args:
        counts: ``Analysis.cell_outcomes`` or ``Analysis.prediction_outcomes``.
        of: What they are of: ``'cells'`` or ``'predictions'``.
    """
    names = [n for n in next(iter(counts.values())) if n != "low score"]
    totals = [max(1, sum(c[n] for n in names)) for c in counts.values()]
    figure = go.Figure(
        layout=axes("share in %", "", barmode="stack", hovermode="closest")
    )
    for name in names:
        of_class = [c[name] for c in counts.values()]
        if not any(of_class):
            continue
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
    caption = f"Outcomes of the {of} of each class."
    return chart(figure, caption, height=120 + 34 * len(counts))


def recall_by_size(analyses: Mapping[str, Analysis]) -> dict:
    """Recall of cells by size, of one run or several."""
    figure = go.Figure(layout=axes("root of the area in px", "recall", barmode="group"))
    for place, (run, analysis) in enumerate(analyses.items()):
        bins = analysis.recall_by_size
        figure.add_bar(
            x=[f"{name}<br>{count:,}" for name, (count, _) in bins.items()],
            y=[recall for _, recall in bins.values()],
            name=run,
            marker={"color": run_color(place)},
            hovertemplate="%{y:.3f}",
        )
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category", tickangle=0)
    figure.update_layout(showlegend=len(analyses) > 1)
    caption = "Below a size: its number of cells."
    return chart(figure, "Recall by size of the cell", caption, height=270)


def differences(estimates: Mapping[str, Estimate], first: str, second: str) -> dict:
    """Differences of two runs with their intervals around zero."""
    rows = {k: gap for k, gap in estimates.items() if not np.isnan(gap.value)}
    margins = np.nan_to_num([gap.high - gap.value for gap in rows.values()])
    figure = go.Figure(layout=axes(f"{second} minus {first}", "", hovermode="closest"))
    figure.add_vline(x=0, line={"color": "#8d95a1", "width": 1})
    figure.add_scatter(
        x=[gap.value for gap in rows.values()],
        y=list(rows),
        mode="markers",
        marker={"color": run_color(1), "size": 8},
        error_x={"type": "data", "array": margins.tolist()},
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
