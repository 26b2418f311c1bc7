"""How the benchmarks measure: medians in one process, peak memory in another.

Time: the two sides take turns in one process of one thread on the same input, so that
a slow moment of the machine meets both; the value is the median of the processor time,
which other programs on the machine disturb less than the time on the clock. Memory:
each side runs once in a process of its own that has made the input and run a small one
before; the value is the peak resident memory above what was there at the start (Linux:
VmHWM, reset through /proc/self/clear_refs).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "data" / "hw3"


@dataclass
class Case:
    """One row of the table.

    Attributes:
        name: What is measured.
        make: Makes the input, in each process anew.
        stock: What is compared with, a function of the input.
        ours: This project's part.
        instances: Instances of the input.
        against: What ``stock`` is: MMDetection's default (bitmaps), its polygons
            (``MMDetection polygons``), or which library or loop by hand.
        repeats: Turns of each side.
        same: Whether two results are equal; None where there is nothing to compare.
        warm_up: A smaller input that loads libraries and starts threads.
    """

    name: str
    make: Callable
    stock: Callable
    ours: Callable
    instances: int
    against: str = "MMDetection bitmaps"
    repeats: int = 3
    same: Callable | None = None
    warm_up: Callable | None = None


def parse_root(description: str) -> Path | None:
    """The folder of real samples to measure on, None for synthetic ones."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(os.environ.get("CELL_DATA_ROOT", SAMPLES)),
        help="data set in the released layout; without one dense images are drawn",
    )
    root = parser.parse_args().root
    return root if (root / "train").is_dir() else None


def resident_mb(key: str = "VmRSS") -> float:
    """Resident memory of this process, MiB; its peak with "VmHWM"."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


class peak_of:
    """``with``: the peak of resident memory above what was there before, MiB, as mb.

    Args:
        start: Above this instead, MiB.
    """

    mb = 0.0

    def __init__(self, start: float | None = None) -> None:
        self._start = start

    def __enter__(self) -> peak_of:
        Path("/proc/self/clear_refs").write_text("5")
        if self._start is None:
            self._start = resident_mb()
        return self

    def __exit__(self, *exception) -> None:
        self.mb = resident_mb("VmHWM") - self._start


def _measure_memory(case: Case, side: str, results) -> None:
    function = getattr(case, side)
    data = case.make()
    if case.warm_up is not None:
        function(case.warm_up(data))
    with peak_of() as peak:
        function(data)
    results.put(peak.mb)


def peak_mb(case: Case, side: str) -> float:
    """Peak memory of one side above its input, MiB."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_measure_memory, args=(case, side, results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{case.name}: the {side} side failed")
    return results.get()


def run_cases(cases: list[Case]) -> list[dict]:
    """Measure the cases and print each as one JSON line.

    Memory comes first for all of them: it is measured in forked processes, which would
    hide what fits into the free memory that timing leaves behind.
    """
    memory = [
        {side: peak_mb(case, side) for side in ("stock", "ours")}
        for case in tqdm(cases, desc="memory", unit="case")
    ]
    rows = []
    for case, peaks in zip(cases, memory, strict=True):
        rows.append(_row(case, peaks))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _row(case: Case, peaks: dict[str, float]) -> dict:
    data = case.make()
    times: dict[str, list[float]] = {"stock": [], "ours": []}
    first: dict = {}
    for _ in range(case.repeats):
        for side in ("stock", "ours"):
            start = time.process_time()
            result = getattr(case, side)(data)
            times[side].append(time.process_time() - start)
            first.setdefault(side, result)
    stock, ours = (statistics.median(times[side]) for side in ("stock", "ours"))
    row = {
        "case": case.name,
        "against": case.against,
        "instances": case.instances,
        "there_s": round(stock, 5),
        "here_s": round(ours, 5),
        "ratio": round(stock / ours, 2),
        "there_mb": round(peaks["stock"], 1),
        "here_mb": round(peaks["ours"], 1),
    }
    if case.same is not None:
        row["same"] = case.same(first["stock"], first["ours"])
    return row
