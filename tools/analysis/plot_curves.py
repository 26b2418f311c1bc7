"""Draw the curves of one or several runs into one picture.

Example::

    python tools/analysis/plot_curves.py work_dirs/maskrcnn_r50 -o curves.png
    python tools/analysis/plot_curves.py work_dirs/maskrcnn_* -o backbones.svg

A panel for each run shows its training loss, and its validation loss where it was
computed (ValidationLossHook); the last panel shows segm AP50 and mAP of all runs on
the validation images. PNG, SVG or PDF by the ending of the name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from custom.errors import InputError
from custom.io.whole_file import whole_file
from custom.report.figures import run_color

LOSS = (("loss", "training", "-"), ("val/loss", "validation", "--"))
AP = (("coco/segm_mAP_50", "segm AP50", "-"), ("coco/segm_mAP", "segm mAP", "--"))
COLUMNS = 3
FORMATS = ("png", "svg", "pdf")


def read_scalars(run: Path) -> list[dict]:
    """The scalars of a run in order; a resumed run has several logs.

    A run that was killed may have left half a line at the end of its log.

    Raises:
        InputError: There are none.
    """
    rows = []
    for file in sorted(run.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    if not rows:
        raise InputError(run, "it holds no scalars", "Name the work dir of a run")
    return rows


def series(rows: list[dict], key: str) -> tuple[list, list]:
    """Steps and values of one scalar; a step that was run again counts once."""
    points = {row["step"]: row[key] for row in rows if key in row and "step" in row}
    return list(points), list(points.values())


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths of runs that tell them apart.

    Raises:
        InputError: A run is named twice.
    """
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(paths[0], "a run is named twice", "Name different runs")


def draw(runs: dict[str, list[dict]]) -> Figure:
    """The figure of some runs, given by name with their scalars."""
    columns = min(COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    if len(runs) == 1:
        figure, (*losses, validation) = plt.subplots(1, 2, figsize=(11, 4))
    else:
        # The validation of all runs goes below, over the whole width.
        figure = plt.figure(figsize=(4.4 * columns, 3.2 * (rows + 1)))
        grid = figure.add_gridspec(rows + 1, columns)
        losses = [
            figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(runs))
        ]
        validation = figure.add_subplot(grid[rows, :])
    figure.set_layout_engine("constrained")
    highest = 0.0
    for number, (axis, (name, rows_of_run)) in enumerate(
        zip(losses, runs.items(), strict=True)
    ):
        color = run_color(number)
        curve = {key: series(rows_of_run, key) for key, _, _ in (*LOSS, *AP)}
        for key, label, style in LOSS:
            steps, values = curve[key]
            if steps:
                axis.plot(steps, values, style, color=color, label=label)
                # The first steps of a run may be far above all others.
                highest = max(highest, *np.percentile(values, [95]))
        axis.set(title=name, xlabel="iteration", ylabel="loss")
        for key, label, style in AP:
            steps, values = curve[key]
            if steps:
                marker = "o" if len(steps) < 30 else None
                label = f"{name}: {label}" if len(runs) > 1 else label
                validation.plot(
                    steps,
                    values,
                    style,
                    color=color,
                    marker=marker,
                    markersize=4,
                    label=label,
                )
    for axis in losses:
        # One scale, or the runs could not be compared.
        axis.set_ylim(0, 1.15 * highest or None)
    validation.set(title="Validation", xlabel="iteration", ylabel="AP", ylim=(0, 1))
    for axis in (*losses, validation):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(left=0)
        if axis.lines and (axis is not validation or len(runs) == 1):
            axis.legend(frameon=False, fontsize=8)
    if len(runs) > 1:
        figure.legend(
            *validation.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8,
        )
    return figure


def main() -> None:
    """Read the runs and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work dirs")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()

    if args.out.suffix[1:] not in FORMATS:
        raise InputError(
            args.out, "no known ending of a picture", f"Use .{', .'.join(FORMATS)}"
        )
    names = names_of(args.runs)
    runs = {n: read_scalars(run) for n, run in zip(names, args.runs, strict=True)}
    figure = draw(runs)
    with whole_file(args.out) as part:
        figure.savefig(part, dpi=150)
    count = len(args.runs)
    print(f"{args.out}: curves of {count} run{'s' if count > 1 else ''}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
