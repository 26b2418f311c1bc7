"""Train the folds of a cross-validation, evaluate each, and fuse them.

Examples::

    python tools/train_folds.py CONFIG --folds 5
    python tools/train_folds.py CONFIG --within grouped_80-20 --work-dir work_dirs/folds
    python tools/train_folds.py CONFIG --only 3     # one fold, for a job of its own

Each fold is an ordinary run in <work dir>/fold-0, fold-1, ...; a finished one is left
alone and an unfinished one is resumed, so that the same command goes on where it was
stopped. With --within the folds divide the training images of that split, and the
ensemble is evaluated on its validation images, which no fold has seen. The submission
is written where the test images are. <work dir>/folds.json holds all figures.

Other options are passed on to tools/train.py; --cfg-options also to tools/test.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from custom.datasets.splits import (
    Split,
    find_split,
    make_folds,
    patients_from_csv,
    patients_from_names,
)
from custom.engine.configs import labelled_datasets
from custom.engine.runs import (
    checkpoint_of_run,
    folds_of,
    last_checkpoint,
    split_of_run,
)
from custom.errors import InputError, run_tool
from custom.io.atomic import write_atomically

# The configs take their split from these.
_VARIABLES = ("CELL_SPLIT", "NUCLEI_SPLIT")


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what is for tools/train.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=42, help="of the folds")
    parser.add_argument("--within", help="outer split: a file or a name")
    parser.add_argument("--patients", help="CSV with the columns name,patient")
    parser.add_argument(
        "--work-dir", type=Path, help="default: work_dirs/folds_<name of the config>"
    )
    parser.add_argument(
        "--only", type=int, metavar="FOLD", help="train this fold and nothing else"
    )
    parser.add_argument("--cfg-options", nargs="+", default=[], help="key=value")
    args, others = parser.parse_known_args()
    if args.folds < 2 or not (args.only is None or 0 <= args.only < args.folds):
        parser.error("--folds is at least 2, and --only counts from 0")
    args.work_dir = args.work_dir or Path(
        "work_dirs", f"folds_{Path(args.config).stem}"
    )
    return args, others


def make_splits(args: argparse.Namespace) -> tuple[list[Path], Path | None]:
    """The split files of the folds and of the outer split, written once.

    Raises:
        InputError: The folder holds other splits.
    """
    cfg = Config.fromfile(args.config)
    init_default_scope("mmdet")
    (settings, *_) = labelled_datasets(cfg.train_dataloader)
    dataset = DATASETS.build(
        {**settings, "split": "all", "subset": "train", "pipeline": []}
    )
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    classes = dataset.metainfo["classes"]
    classes_of = {
        e["name"]: [classes[i] for i, n in enumerate(e["counts"]) if n] for e in entries
    }
    source = dataset.data_prefix["img"]
    if args.patients:
        patients = patients_from_csv(args.patients, classes_of)
    else:
        try:
            patients = patients_from_names(list(classes_of), source)
        except InputError as error:
            print(f"folds of single images, because patients are not known: {error}")
            patients = None
    outer = args.within and find_split(args.within, classes_of, source)
    folds = make_folds(args.folds, classes_of, source, patients, args.seed, outer)
    folder = args.work_dir / "splits"
    wanted = {folder / f"fold-{i}.json": fold for i, fold in enumerate(folds)}
    if outer:
        wanted[folder / "outer.json"] = outer
    for path, split in wanted.items():
        if path.exists() and Split.load(path) != split:
            raise InputError(path, "it is another split", "Choose another --work-dir")
        split.save(path)
    return list(wanted)[: args.folds], folder / "outer.json" if outer else None


def length_of(args: argparse.Namespace) -> int:
    """The iterations or epochs of a finished run."""
    cfg = Config.fromfile(args.config)
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    if args.cfg_options:
        options = parser.parse_args(["--cfg-options", *args.cfg_options])
        cfg.merge_from_dict(options.cfg_options)
    return cfg.train_cfg.get("max_iters") or cfg.train_cfg.max_epochs


def run(title: str, tool: str, *arguments: object) -> None:
    """Run a tool; the whole ends if it fails."""
    print(f"\n=== {title}", flush=True)
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"error: {title} failed; see above, and give the same command again")


def train(i: int, split: Path, length: int, args, others: list[str]) -> None:
    """Train a fold, or what is missing of it."""
    folder = args.work_dir / f"fold-{i}"
    present = split_of_run(folder)
    if present is not None and Split.load(present) != Split.load(split):
        raise InputError(folder, f"it was not trained on {split}", "Remove the folder")
    last = last_checkpoint(folder)
    if last is not None and last[1] >= length:
        print(f"{folder}: finished ({last[0].name})")
        return
    if last is None:
        # A run that ended before its first checkpoint has left nothing to keep.
        (folder / "run.json").unlink(missing_ok=True)
    options = ["--resume"] if last else []
    options += ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    run(
        f"train fold {i}",
        "tools/train.py",
        *(args.config, "--work-dir", folder, *others, *options),
    )


def evaluate(i: int, args: argparse.Namespace) -> dict:
    """Checkpoint and figures of a fold on its own validation images."""
    folder = args.work_dir / f"fold-{i}"
    checkpoint = checkpoint_of_run(folder)
    options = ["--cfg-options", *args.cfg_options] if args.cfg_options else []

    def finished() -> list[Path]:
        """Prediction files of this checkpoint on these images."""
        found = []
        for path in sorted(folder.glob("*/predictions.json")):
            info = json.loads(path.read_text())["info"]
            if (
                Path(info["checkpoint"]).name == checkpoint.name
                and info["subset"] == "val"
                and info["split"]["name"] == Split.load(folder / "split.json").name
                and path.stat().st_mtime > checkpoint.stat().st_mtime
            ):
                found.append(path)
        return found

    if not finished():
        arguments = (args.config, checkpoint, *options)
        run(f"evaluate fold {i}", "tools/test.py", *arguments)
    path = finished()[-1]
    return {
        "fold": i,
        "checkpoint": str(checkpoint),
        "predictions": str(path),
        "figures": figures_of(path.parent),
    }


def figures_of(folder: Path) -> dict[str, float]:
    """The figures that tools/test.py left in a folder."""
    figures = json.loads((folder / f"{folder.name}.json").read_text())
    return {key: value for key, value in figures.items() if "/" in key}


def fuse(title: str, args: argparse.Namespace, *arguments: object) -> Path:
    """Run tools/ensemble.py on all folds; the folder of its result."""
    out = args.work_dir / "ensemble"
    before = set(out.glob("*/predictions.json"))
    options = ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    run(title, "tools/ensemble.py", out, args.work_dir, *arguments, *options)
    (new,) = set(out.glob("*/predictions.json")) - before
    return new.parent


def main() -> None:
    """Train, evaluate, fuse and write the figures."""
    args, others = parse_args()
    splits, outer = make_splits(args)
    length = length_of(args)
    for i, split in enumerate(splits):
        if args.only not in (None, i):
            continue
        os.environ.update(dict.fromkeys(_VARIABLES, str(split)))
        for node in labelled_datasets(Config.fromfile(args.config).train_dataloader):
            if node.split != str(split):
                raise InputError(
                    args.config,
                    f"its split is fixed, {node.split}",
                    "Take it from CELL_SPLIT as configs/_base_/datasets/cell.py does",
                )
        train(i, split, length, args, others)
    if args.only is not None:
        print(f"Fold {args.only} is trained; without --only the folds are fused")
        return

    extra = {f.name for f in folds_of(args.work_dir)[args.folds :]}
    if extra:
        raise InputError(args.work_dir, f"it holds more folds: {extra}", "Remove them")
    record: dict = {"config": args.config, "folds": args.folds, "within": args.within}
    record["runs"] = [evaluate(i, args) for i in range(args.folds)]
    if outer:
        folder = fuse("evaluate the ensemble", args, "--eval", "--split", outer)
        record["ensemble"] = {
            "predictions": str(folder / "predictions.json"),
            "figures": json.loads((folder / "metrics.json").read_text()),
        }
        members = json.loads((folder / "predictions.json").read_text())["info"]
        for fold, member in zip(record["runs"], members["members"], strict=True):
            fold["figures_within"] = figures_of(Path(member).parent)
    write(record, args.work_dir / "folds.json")
    report(record)

    test = Config.fromfile(args.config).submission_dataloader.dataset
    listed = Path(test.data_root, test.ann_file)
    if listed.is_file():
        folder = fuse("submission", args, "--format-only")
        write({**record, "submission": str(folder)}, args.work_dir / "folds.json")
    else:
        print(f"No submission: {listed} does not exist")


def write(record: dict, path: Path) -> None:
    """Write JSON, whole or not at all."""
    with write_atomically(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{path}: the figures")


def report(record: dict) -> None:
    """Print segm AP50 of the folds and of the ensemble."""
    key = "coco/segm_mAP_50"
    own = [fold["figures"][key] for fold in record["runs"]]
    print("\nsegm AP50 of each fold on its own validation images")
    print("  " + "  ".join(f"{value:.4f}" for value in own), end="")
    print(f"   mean {np.mean(own):.4f}, standard deviation {np.std(own, ddof=1):.4f}")
    if "ensemble" in record:
        single = [fold["figures_within"][key] for fold in record["runs"]]
        print(f"of each fold on the validation images of {record['within']}")
        print("  " + "  ".join(f"{value:.4f}" for value in single), end="")
        print(f"   mean {np.mean(single):.4f}")
        print(f"of their ensemble there\n  {record['ensemble']['figures'][key]:.4f}")


if __name__ == "__main__":
    run_tool(main)
