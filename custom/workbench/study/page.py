"""The table of a study as Markdown and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from custom.workbench.report.page import chart, render
from custom.workbench.study.compare import Comparison, noise
from custom.workbench.study.study import BASELINE, Run, Study

_HEADER = (
    "row",
    "runs (folds)",
    "AP50",
    "Δ AP50 [95 % interval]",
    "p (Holm)",
    "Δ class 3, 4",
    "mAP",
    "steps",
    "cost of a step",
    "memory (MB)",
    "parameters (M)",
)


def cells(line: Comparison) -> list[str]:
    """The texts of a row, in the order of the header."""
    m = line.metrics
    rare = [line.changes.get(f"mAP_50_class{k}", math.nan) for k in (3, 4)]
    return [
        line.row.name
        + (f" (against {line.row.against})" if line.row.against != BASELINE else ""),
        f"{line.n_runs} ({len(line.folds)})",
        _number(m["mAP_50"]),
        _difference(line),
        _number(line.p_holm)
        if line.p_holm >= 0.001 or math.isnan(line.p_holm)
        else "<.001",
        ", ".join(_signed(v) for v in rare),
        _number(m["mAP"]),
        str(line.steps) if not line.row.of else "test only",
        f"{line.cost:.2f}" if line.cost else "–",
        "–" if line.row.of else str(line.memory),
        f"{line.parameters / 1e6:.1f}",
    ]


def markdown(
    study: Study, table: Sequence[Comparison], lines: Mapping[Run, dict]
) -> str:
    """The table with what its numbers mean."""
    text = [f"# {study.path.stem}: {sum(line.n_runs for line in table)} runs", ""]
    text += [summary(study, lines), ""]
    text += [f"| {' | '.join(_HEADER)} |", "|---" * len(_HEADER) + "|"]
    text += [f"| {' | '.join(cells(line))} |" for line in table]
    if missing := [run for run in study.runs() if run not in lines]:
        rows = sorted({run.row for run in missing}, key=list(study.rows).index)
        text += ["", f"{len(missing)} runs are missing, of: {', '.join(rows)}."]
    return "\n".join(text) + "\n"


def summary(study: Study, lines: Mapping[Run, dict]) -> str:
    """What was run, and how far apart the seeds of the baseline are."""
    text = (
        f"Segm AP50 at 1,000 detections, mean over folds; {study.folds} folds keep "
        "together what looks like one slide. What the intervals cover: docs/study.md."
    )
    if all(study.rows[run.row].of for run in lines):
        return f"{text} All rows test the same trained models."
    spread, df = noise(lines, BASELINE)
    noisy = "The baseline has one seed in each fold so far: no intervals."
    if df:
        noisy = (
            "Among the seeds of the baseline AP50 has a standard deviation of "
            f"{_number(spread)} ({df} degrees of freedom)."
        )
    return (
        f"{text} The baseline takes {study.steps} steps; a row whose step costs more "
        f"takes fewer, so that every run has the same processor time. {noisy}"
    )


def page(study: Study, table: Sequence[Comparison], lines: Mapping[Run, dict]) -> str:
    """The page: the differences as a plot, and the table."""
    shown = [line for line in table if not math.isnan(line.difference)]
    charts = (
        [
            chart(
                _plot(shown),
                "Differences of AP50 with intervals",
                height=60 + 24 * len(shown),
            )
        ]
        if shown
        else []
    )
    return render(
        "study.html.j2",
        title=f"Study {study.path.stem}",
        summary=summary(study, lines),
        header=[(name, "number" if i else "text") for i, name in enumerate(_HEADER)],
        rows=[cells(line) for line in table],
        charts=charts,
    )


def _plot(table: Sequence[Comparison]) -> go.Figure:
    """Differences with their intervals, the first row at the top."""
    table = table[::-1]
    margins = [
        0 if math.isnan(line.low) else line.high - line.difference for line in table
    ]
    figure = go.Figure(
        go.Scatter(
            x=[line.difference for line in table],
            y=[line.row.name for line in table],
            error_x={"type": "data", "array": margins},
            mode="markers",
        )
    )
    figure.add_vline(x=0, line_width=1)
    return figure.update_layout(xaxis_title="Δ AP50", margin={"l": 220})


def _difference(line: Comparison) -> str:
    if math.isnan(line.difference):
        return "–"
    if math.isnan(line.low):
        return _signed(line.difference)
    return f"{_signed(line.difference)} [{_signed(line.low)}, {_signed(line.high)}]"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("0.", ".", 1)
