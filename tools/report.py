"""Write the report of a run, or a comparison of several, as one HTML page.

Examples::

    python tools/report.py work_dirs/maskrcnn_r50
    python tools/report.py work_dirs/a work_dirs/b -o compare.html

The page is self-contained and opens from disk: settings, their differences from the
parent config, curves, metrics with intervals, errors, and the images with ground truth
and predictions. Predictions are those of the run's newest tools/test.py; --predict
calls it where there are none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from custom.engine.runs import checkpoint_of_run
from custom.errors import InputError, run_tool
from custom.workbench.report import guard_page, write_page
from custom.workbench.report.pages import check_comparable, report_page
from custom.workbench.report.run import Run, names_of, newest_predictions, read_run

ROOT = Path(__file__).resolve().parents[1]


def predict(run: Run) -> None:
    """Call tools/test.py on a run without predictions.

    Raises:
        InputError: The run lacks a checkpoint, or the call fails.
    """
    checkpoint_of_run(run.path)
    tool, *arguments = run.test_command
    print(f"$ {run.test_command_line}", flush=True)
    done = subprocess.run([sys.executable, str(ROOT / tool), *arguments])
    if done.returncode:
        raise InputError(
            run.path, "tools/test.py failed on it", "See its message above"
        )
    run.predictions = newest_predictions(run.path)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work dirs")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="default: report.html in the folder of a single run",
    )
    parser.add_argument(
        "--data-root", type=Path, help="where the images are now, if they were moved"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=40,
        help="show at most so many images, the worst and the best (40)",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.5,
        help="score from which predictions count in all metrics but AP (0.5)",
    )
    parser.add_argument(
        "--predict",
        action="store_true",
        help="call tools/test.py for runs without predictions",
    )
    args = parser.parse_args()
    if args.out is None and len(args.runs) > 1:
        parser.error("a comparison needs --out")
    return args


def main() -> None:
    """Read the runs and write the page."""
    args = parse_args()
    out = args.out or args.runs[0] / "report.html"
    guard_page(out)
    runs = [
        read_run(path, name, args.data_root)
        for path, name in zip(args.runs, names_of(args.runs), strict=True)
    ]
    check_comparable(runs)
    for run in runs:
        if args.predict and run.predictions is None:
            predict(run)
    write_page(report_page(runs, args.images, args.score_thr), out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
