"""Run what is missing of a study, and write its table.

Examples::

    python tools/study.py studies/cells.py           # the missing runs, then the table
    python tools/study.py studies/cells.py --table   # the table of the finished runs
    python tools/study.py studies/cells.py --jobs 2 --only baseline "two anchors"
    python tools/study.py studies/cells.py --slurm gpus_per_node=1 timeout_min=60

A study is a config with rows (docs/study.md). Beside it lie <study>.jsonl, one line for
each finished run, from which the table follows without training; <study>.md and
<study>.html, the table; <study>.folds.json and <study>.costs.json, the folds and the
measured cost of a step of each row. A killed study loses the runs in flight and no
others: the same command continues. To run something again, delete its line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial

# Read when torch is loaded: a run takes one core, and waiting threads sleep.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# glibc returns the large buffers of each step to the system, which clears them again.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 32))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 34))

from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.io.json_file import read_json, write_json
from custom.workbench.study.study import Run, Study, append_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="config file of the study")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="run these rows")
    parser.add_argument(
        "--slurm",
        nargs="*",
        metavar="KEY=VALUE",
        help="run as a Slurm array; parameters of submitit's executor",
    )
    parser.add_argument("--run", nargs=3, action="append", help=argparse.SUPPRESS)
    parser.add_argument("--cost", metavar="ROW", help=argparse.SUPPRESS)
    return parser.parse_args()


def start(study: Study, *arguments: object) -> int:
    """Run this tool in a process of its own, with its output in a log file."""
    log = study.work_dir / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(study.path), *map(str, arguments)]
    with log.open("a") as file:
        return subprocess.run(command, stdout=file, stderr=file).returncode


def jobs_of(study: Study, runs: Sequence[Run]) -> list[list[Run]]:
    """What one process does: a training, or all tests of one trained model."""
    jobs: dict[Run, list[Run]] = {}
    for run in runs:
        trained = study.training(run)
        # Runs are keys of the trainings, tests share a list under the trained model's.
        key = run if trained == run else replace(trained, row=f"tests of {trained.row}")
        jobs.setdefault(key, []).append(run)
    return list(jobs.values())


def do(study: Study, job: Sequence[Run]) -> list[Run]:
    """Make the runs of a job in a process of its own; returns the finished ones."""
    options = [text for r in job for text in ("--run", r.row, r.fold, r.seed)]
    start(study, *options)
    return [run for run in job if study.line_file(run).exists()]


def collect(study: Study, job: Sequence[Run], finished: Sequence[Run]) -> list[Run]:
    """Move the lines of finished runs to the results; returns the runs that failed."""
    for run in finished:
        append_line(study.results, read_json(study.line_file(run)))
        study.line_file(run).unlink()
        write_table(study)
    return [run for run in job if run not in finished]


def work(study: Study, runs: Sequence[Run], n_jobs: int) -> list[Run]:
    """Make the runs, tests after their trainings; returns those that failed."""
    waiting, failed, begin, done = jobs_of(study, runs), [], time.monotonic(), 0
    flying: dict[Future, list[Run]] = {}
    with ThreadPoolExecutor(n_jobs) as pool:
        while waiting or flying:
            to_come = {run for job in (*waiting, *flying.values()) for run in job}
            for job in list(waiting):
                ready = job[0] == (first := study.training(job[0])) or (
                    first not in to_come
                )
                if ready and len(flying) < n_jobs:
                    waiting.remove(job)
                    flying[pool.submit(do, study, job)] = job
            for future in wait(flying, return_when=FIRST_COMPLETED)[0]:
                job = flying.pop(future)
                finished = future.result()
                failed += collect(study, job, finished)
                done += len(job)
                left = (time.monotonic() - begin) / done * (len(runs) - done) / 60
                last = f"{job[-1].row}, fold {job[-1].fold}, seed {job[-1].seed}"
                last += "" if len(finished) == len(job) else " FAILED"
                print(f"{done}/{len(runs)} {last}; {left:.0f} min left", flush=True)
    return failed


def submit(study: Study, runs: Sequence[Run], options: Sequence[str]) -> list[Run]:
    """Make the runs as Slurm arrays, the tests after the trainings.

    Raises:
        InputError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise InputError(
            "--slurm", "submitit is not installed", "Install it: pip install submitit"
        ) from None
    executor = submitit.AutoExecutor(study.work_dir / "slurm")
    parameters = dict(option.split("=", 1) for option in options)
    executor.update_parameters(
        **{k: int(v) if v.isdigit() else v for k, v in parameters.items()}
    )
    failed = []
    tests = {run for run in runs if study.training(run) != run}
    for part in ([r for r in runs if r not in tests], [r for r in runs if r in tests]):
        jobs = jobs_of(study, part)
        submitted = executor.map_array(partial(do, study), jobs) if jobs else []
        for job, handle in zip(jobs, submitted, strict=True):
            finished = handle.result() if handle.exception() is None else []
            failed += collect(study, job, finished)
    return failed


def measure_costs(study: Study, runs: Sequence[Run]) -> None:
    """Measure what a step costs for the rows of some runs where it is not known."""
    for name in dict.fromkeys(run.row for run in runs):
        row = study.rows[name]
        if row.of or row.cost or name in study.costs():
            continue
        print(f"cost of a step: {name}", flush=True)
        if start(study, "--cost", name):
            sys.exit(f"error: {name} failed; see {study.work_dir}/log.txt")


def write_table(study: Study) -> str:
    """Write the table beside the study; returns it as Markdown."""
    from custom.workbench.report.page import write_page
    from custom.workbench.study.compare import compare
    from custom.workbench.study.page import markdown, page

    lines = study.lines()
    table = compare(study, lines)
    text = markdown(study, table, lines)
    with write_atomically(study.path.with_suffix(".md")) as part:
        part.write_text(text, encoding="utf-8")
    write_page(page(study, table, lines), study.path.with_suffix(".html"))
    return text


def main() -> None:
    """Run what is missing, then write and print the table."""
    args = parse_args()
    study = Study.load(args.study)
    if args.run:
        from custom.workbench.study.runs import execute

        for row, fold, seed in args.run:
            run = Run(row, int(fold), int(seed))
            write_json(execute(study, run), study.line_file(run))
        return
    if args.cost:
        from custom.workbench.study.runs import measure_cost

        cost = measure_cost(study, study.rows[args.cost], steps=6)
        study.save_costs({**study.costs(), args.cost: cost})
        return
    if unknown := set(args.only or ()) - set(study.rows):
        raise InputError(
            args.study, f"it lacks the rows {sorted(unknown)}", "See --help"
        )
    # Runs that ended after this tool was killed.
    runs = study.runs()
    collect(study, [], [r for r in runs if study.line_file(r).exists()])
    lines = study.lines()
    missing = [
        run
        for run in runs
        if run not in lines and (not args.only or run.row in args.only)
    ]
    failed = []
    if missing and not args.table:
        measure_costs(study, missing)
        failed = (
            work(study, missing, args.jobs)
            if args.slurm is None
            else submit(study, missing, args.slurm)
        )
    print(write_table(study), end="")
    if failed:
        sys.exit(f"error: {len(failed)} runs failed; see {study.work_dir}/log.txt")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
