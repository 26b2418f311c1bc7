"""Put several runs into one table: how they differ, and what came out.

Examples::

    python tools/analysis/compare_runs.py work_dirs/*
    python tools/analysis/compare_runs.py work_dirs/a work_dirs/b -o compare.csv

A row is a run. The columns are the settings in which the runs differ, the split, the
hours of training steps (without validation), and the best validation by segm AP50: its
epoch or iteration, AP, AP50 and the AP50 of each class. Markdown, or CSV by the ending
of the name.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path

from mmengine.config import Config

from custom.engine.runs import config_of_run, read_config
from custom.errors import run_tool
from custom.workbench.report.run import read_scalars

AP, AP50 = "coco/segm_mAP", "coco/segm_mAP_50"
# The parts of a config that decide the result; others repeat them or name folders.
PARTS = (
    "model",
    "load_from",
    "train_dataloader",
    "val_dataloader",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
    "randomness",
)
# Parts of names that say nothing in a table.
SHORTER = (
    ("train_dataloader.dataset.pipeline", "pipeline"),
    ("optim_wrapper.optimizer.", "optimizer."),
    ("model.", ""),
)
# The split has a column of its own, whatever the settings call it.
IGNORED = ("split", "data_root", "cache_dir", "persistent_workers", "num_workers")


def flatten(node, name: str = "") -> dict[str, str]:
    """Every setting of a config by its dotted name.

    A list of transforms or hooks also has its types in one line, so that a different
    length shows as one difference.
    """
    if isinstance(node, dict):
        items = [(str(k), v) for k, v in node.items() if k not in IGNORED]
    elif isinstance(node, (list, tuple)) and any(isinstance(v, dict) for v in node):
        items = [(str(i), v) for i, v in enumerate(node)]
    else:
        return {name: json.dumps(node, default=str).strip('"')}
    found = {}
    if not isinstance(node, dict):
        found[name] = ", ".join(str(v.get("type")) for v in node if isinstance(v, dict))
    for key, value in items:
        found.update(flatten(value, f"{name}.{key}" if name else key))
    return found


def differences(configs: list[Config]) -> dict[str, list[str]]:
    """The settings in which configs differ, each with its value in every config."""
    flat = [flatten({k: c[k] for k in PARTS if k in c}) for c in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    values = {name: [settings.get(name, "-") for settings in flat] for name in names}
    differing = {name: v for name, v in values.items() if len(set(v)) > 1}
    # Below a list of other types the numbers name other things.
    lists = [n for n in differing if f"{n}.0.type" in values]
    return {
        name: v
        for name, v in differing.items()
        if not any(name.startswith(f"{parent}.") for parent in lists)
    }


def shorten(name: str) -> str:
    """A name of a setting without the parts that say nothing."""
    for long, short in SHORTER:
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def training_hours(rows: list[dict]) -> float:
    """Hours of training steps: their logged mean time by their number."""
    seconds, last = 0.0, 0
    for row in rows:
        if "loss" not in row or "time" not in row:
            continue
        step = row["step"]
        # After a resume the numbers begin again somewhere.
        seconds += row["time"] * (step - last if step > last else 0)
        last = step
    return seconds / 3600


def outcome(rows: list[dict]) -> dict[str, str]:
    """The best validation of a run, by AP50."""
    validations = [row for row in rows if AP50 in row]
    if not validations:
        return {}
    best = max(validations, key=lambda row: row[AP50])
    epochs = [
        row["epoch"] for row in rows if "epoch" in row and row["step"] <= best["step"]
    ]
    place = f"epoch {epochs[-1]}" if epochs else f"iteration {best['step']}"
    columns = {"best": place, "AP": AP, "AP50": AP50}
    prefix = f"{AP50}_"
    columns.update(
        {f"AP50 {k.removeprefix(prefix)}": k for k in best if k.startswith(prefix)}
    )
    return {
        name: f"{best[key]:.3f}" if key in best else key
        for name, key in columns.items()
    }


def split_of(run: Path) -> tuple[str, tuple]:
    """Name of a run's split, and its validation images."""
    path = run / "split.json"
    if not path.exists():
        return "-", ()
    split = json.loads(path.read_text())
    return split["name"], tuple(split["val"])


def compare(runs: list[Path]) -> tuple[list[dict[str, str]], str | None]:
    """The rows of the table, and a warning if the runs cannot be compared.

    Raises:
        InputError: A folder is not that of a run.
    """
    configs = [read_config(config_of_run(run)) for run in runs]
    differing = differences(configs)
    table, validation = [], set()
    for i, run in enumerate(runs):
        rows = read_scalars(run)
        split, images = split_of(run)
        validation.add(images)
        table.append(
            {
                "run": run.name,
                **{shorten(name): values[i] for name, values in differing.items()},
                "split": split,
                "hours": f"{training_hours(rows):.2f}",
                **outcome(rows),
            }
        )
    warning = None
    if len(validation) > 1:
        warning = "The runs were validated on different images: AP cannot be compared."
    return table, warning


def as_csv(table: list[dict[str, str]]) -> str:
    """The table as CSV."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="-", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_markdown(table: list[dict[str, str]]) -> str:
    """The table as Markdown."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[row.get(name, "-") for name in columns] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Read the runs and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work dirs")
    parser.add_argument("-o", "--out", type=Path, help="default: print Markdown")
    args = parser.parse_args()

    table, warning = compare([run for run in args.runs if run.is_dir()])
    if args.out is None:
        print(as_markdown(table), end="")
    else:
        text = as_csv(table) if args.out.suffix == ".csv" else as_markdown(table)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
        print(f"{args.out}: {len(table)} runs")
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
