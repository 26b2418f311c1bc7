"""Write the report of a run, or a comparison of several, as one HTML page.

Examples::

    python tools/report.py work_dirs/maskrcnn_r50
    python tools/report.py work_dirs/a work_dirs/b -o compare.html

The page is self-contained and opens from disk: metrics with intervals, errors, the
images with ground truth and predictions, curves and settings. Predictions are those of
the run's newest tools/test.py; where there are none, the page says what makes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from custom.errors import run_tool
from custom.workbench.report.page import guard_page, write_page
from custom.workbench.report.pages import report_page
from custom.workbench.report.run import names_of, read_run


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
        help="number of images to show, the worst and the best (40)",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.5,
        help="score threshold of all metrics but AP (0.5)",
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
    write_page(report_page(runs, args.images, args.score_thr), out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
