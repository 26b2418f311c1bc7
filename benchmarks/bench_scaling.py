"""Training on one process and on two: images per second.

The demo's model, its loader and its optimiser, by tools/dist_train.sh as a user starts
it; synthetic tiles. Each process has one thread, so that one process uses one core. The
value is the median over the iterations after the first five. `same batch` keeps the
images of a step (2 x 1 against 1 x 2), `same per process` the images of a process (2 x
2 against 1 x 2).

Example::

    python benchmarks/bench_scaling.py --iterations 25

On one machine two processes share caches and memory; what a network costs is not
measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

from custom.workbench.synthetic import write_dataset

DEMO = "configs/demo/maskrcnn_r18-slim.py"
WARM_UP = 5
# Processes, images of a batch of one process.
CASES = ((1, 2), (2, 1), (2, 2))


def step_times(root: Path, processes: int, batch_size: int, count: int) -> list[float]:
    """Seconds of each iteration of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    work_dir = root.parent / f"run_{processes}x{batch_size}"
    command = ["bash", "tools/dist_train.sh", DEMO, processes]
    command += ["--work-dir", work_dir, "--cfg-options"]
    command += [
        f"train_cfg.max_iters={count + WARM_UP}",
        "train_cfg.val_interval=100000",
        "default_hooks.checkpoint.interval=100000",
        "default_hooks.logger.interval=1",
        # The time of one iteration, not of the last ten.
        "log_processor.window_size=1",
        f"train_dataloader.batch_size={batch_size}",
    ]
    env = {
        **os.environ,
        "CELL_DATA_ROOT": str(root),
        "CELL_SPLIT": "all",
        "PYTHON": sys.executable,
        "PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    options = ["val_dataloader=None", "val_evaluator=None", "val_cfg=None"]
    subprocess.run(
        [*map(str, command), *options], cwd=ROOT, env=env, check=True, stdout=sys.stderr
    )
    (scalars,) = work_dir.glob("*/vis_data/scalars.json")
    rows = map(json.loads, scalars.read_text().splitlines())
    return [row["time"] for row in rows if "loss" in row][WARM_UP:]


def main() -> None:
    """Measure all cases and print each as one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--iterations", type=int, default=25, help="default: %(default)s"
    )
    count = parser.parse_args().iterations
    first = None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "cells")
        write_dataset(root, n_train=24, n_test=1)
        for processes, batch_size in CASES:
            times = step_times(root, processes, batch_size, count)
            median = statistics.median(times)
            rate = processes * batch_size / median
            first = first or rate
            row = {
                "case": f"{processes} x {batch_size}",
                "processes": processes,
                "images_per_step": processes * batch_size,
                "iterations": len(times),
                "step_s": round(median, 3),
                "images_per_s": round(rate, 2),
                "speedup": round(rate / first, 2),
                "efficiency": round(rate / first / processes, 2),
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
