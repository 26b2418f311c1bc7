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
    rows = run_cases([case for module in modules for case in module.cases(root)])
    columns = ["case", "against", "instances", "there_s", "here_s", "ratio"]
    columns += ["there_mb", "here_mb", "same"]
    table = [columns, *([str(row.get(c, "")) for c in columns] for row in rows)]
    print(GithubFlavoredMarkdownTable(table).table)


if __name__ == "__main__":
    main()
