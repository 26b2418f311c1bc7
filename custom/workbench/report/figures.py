"""Charts that several pages use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from custom.workbench.report.theme import DASHES, RUNS, Color, class_colorways, css

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
    runs: Mapping[str, Mapping[str, Series]],
    y: str,
    *,
    log: bool = False,
    unit: bool = False,
) -> go.Figure:
    """Scalars against the step; of several runs each has a colour.

    Args:
        runs: For each run its scalars by the name that the legend shows.
        y: Title of the axis.
        log: Logarithmic axis.
        unit: The values lie in 0..1.
    """
    names = list(dict.fromkeys(name for scalars in runs.values() for name in scalars))
    several = len(runs) > 1
    figure = go.Figure(layout=axes("iteration", y))
    for number, (run, scalars) in enumerate(runs.items()):
        for name, (steps, values) in scalars.items():
            place = names.index(name)
            figure.add_scatter(
                x=list(steps),
                y=list(values),
                name=f"{run}: {name}" if several else name,
                mode="lines" if len(steps) > 20 else "lines+markers",
                line={
                    "color": run_color(number if several else place),
                    "dash": DASHES[place % len(DASHES)],
                    "width": 2,
                },
                marker={"size": 5},
                hovertemplate="%{y:.4g}",
            )
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(showlegend=True)
    if log:
        figure.update_yaxes(type="log")
    elif unit:
        figure.update_yaxes(range=[0, 1])
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def histogram(
    centres: Sequence[float], counts: Mapping[str, Sequence[float]], x: str, y: str
) -> go.Figure:
    """Steps of counts or shares, one line for each class."""
    figure = go.Figure(layout=axes(x, y))
    for place, (name, values) in enumerate(counts.items()):
        figure.add_scatter(
            x=list(centres),
            y=list(values),
            name=name,
            mode="lines",
            line={"shape": "hvh", "width": 2, "dash": DASHES[place % len(DASHES)]},
            hovertemplate="%{y:.4~g}",
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(rangemode="tozero")
    return figure
