"""Draw the curves of one or several runs into one picture.

Example::

    python tools/analysis/plot_curves.py work_dirs/maskrcnn_r50 -o curves.png

Left: training loss (and validation loss where the run computed it). Right: segm AP50
and mAP on the validation images. PNG, SVG or PDF by the ending of the name.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from custom.errors import InputError

LEFT = (("loss", "train", "-"), ("val/loss", "validation", "--"))
RIGHT = (("coco/segm_mAP_50", "segm AP50", "-"), ("coco/segm_mAP", "segm mAP", "--"))


def read_scalars(run: Path) -> list[dict]:
    """The scalars of a run in order; a resumed run has several logs.

    Raises:
        InputError: There are none.
    """
    files = sorted(run.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for file in files for line in file.open()]
    if not rows:
        raise InputError(run, "it holds no scalars", "Name the work dir of a run")
    return rows


def series(rows: list[dict], key: str) -> tuple[list, list]:
    """Steps and values of one scalar; a step that was run again counts once."""
    points = {row["step"]: row[key] for row in rows if key in row and "step" in row}
    return list(points), list(points.values())


def main() -> None:
    """Read the runs and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work dirs")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for number, run in enumerate(args.runs):
        rows = read_scalars(run)
        name = f"{run.name}: " if len(args.runs) > 1 else ""
        for axis, lines in zip(axes, (LEFT, RIGHT), strict=True):
            for key, label, style in lines:
                steps, values = series(rows, key)
                if steps:
                    marker = "o" if len(steps) < 30 and axis is axes[1] else None
                    axis.plot(
                        steps,
                        values,
                        style,
                        color=f"C{number}",
                        marker=marker,
                        markersize=4,
                        label=name + label,
                    )
    axes[0].set(xlabel="step", ylabel="loss", title="Loss")
    axes[1].set(xlabel="step", ylabel="AP", title="Validation", ylim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    print(f"{args.out}: curves of {len(args.runs)} run(s)")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
