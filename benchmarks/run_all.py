"""Run every benchmark and print one table.

Example::

    python benchmarks/run_all.py --root data/hw3

The rows of docs/performance.md are this table.
"""

from __future__ import annotations

import bench_assign
import bench_eval
import bench_fusion
import bench_loading
import bench_metrics
import bench_reading
import bench_rle
import bench_targets
from common import parse_root, run_cases
from terminaltables import GithubFlavoredMarkdownTable

COLUMNS = [
    "case", "cells", "MMDetection bitmaps", "MMDetection polygons", "other", "here"
]  # fmt: skip


def main() -> None:
    """Measure all cases in one process."""
    root = parse_root(__doc__)
    modules = (
        bench_assign,
        bench_rle,
        bench_targets,
        bench_eval,
        bench_metrics,
        bench_fusion,
        bench_loading,
        bench_reading,
    )
    cases = [case for module in modules for case in module.cases(root)]
    print(table(run_cases(cases)))


def table(rows: list[dict]) -> str:
    """A row for each case and a column for each of the other sides.

    Args:
        rows: What :func:`common.run_cases` gives. ``here`` is of a case's first row;
            each ratio is to the turns taken with it.
    """
    lines = {}
    for row in rows:
        line = lines.setdefault(row["case"], dict.fromkeys(COLUMNS, ""))
        line.update(case=row["case"], cells=f"{row['instances']:,}")
        line["here"] = line["here"] or f"{row['here_s']:.3g} s, {row['here_mb']:.0f} MB"
        text = f"{row['there_s']:.3g} s, {row['there_mb']:.0f} MB: {row['ratio']:.3g}x"
        text += {True: ", same", False: ", differs", None: ""}[row.get("same")]
        column = row["against"] if row["against"] in COLUMNS else "other"
        line[column] = f"{row['against']}: {text}" if column == "other" else text
    cells = [COLUMNS, *(list(line.values()) for line in lines.values())]
    return GithubFlavoredMarkdownTable(cells).table


if __name__ == "__main__":
    main()
