"""Evaluate a run again and compare with the metrics that it stores.

Examples::

    python tools/verify_run.py work_dirs/RUN            # runs the network
    python tools/verify_run.py work_dirs/RUN --quick    # from predictions.json

Compares the data files and the checkpoints with the recorded SHA-256, then repeats
every evaluation by tools/test.py in the folder with its own config, split and
checkpoint. Prints every metric, stored and now, and ends with an error if anything
differs. Nothing is written into the folder. The config of a run is code: verify only
runs that you trust.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.datasets.splits import Split
from custom.engine.configs import labelled_datasets, set_data_root, set_split
from custom.engine.record import DATA, RUN
from custom.engine.runner import CellRunner
from custom.engine.runs import read_config, split_of_run
from custom.errors import InputError, run_tool
from custom.evaluation import read_predictions
from custom.evaluation.predictions import FILE_NAME
from custom.io.checksums import file_checksum, file_checksums
from custom.io.json_file import read_json
from custom.workbench.analysis.results import evaluate_predictions


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", type=Path, help="folder of a run")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="evaluate the stored predictions, without the network",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="largest difference of a metric, for another machine than the run's",
    )
    parser.add_argument(
        "--data-root", type=Path, help="folder of the data; default: that of the run"
    )
    return parser.parse_args()


def main() -> None:
    """Compare everything; end with 1 if something differs."""
    args = parse_args()
    init_default_scope("mmdet")
    tests = stored_tests(args.work_dir)
    if not tests:
        raise InputError(
            args.work_dir,
            "it stores no metrics that can be compared",
            "Evaluate it with tools/test.py first",
        )
    cfg = config_of_test(args.work_dir, tests[0][0], True, args.data_root)
    differences = check_data(args.work_dir, cfg)
    own_split = split_of_run(args.work_dir)
    own_name = own_split and Split.load(own_split).name
    for folder, info in tests:
        checkpoint = args.work_dir / Path(info["checkpoint"]).name
        print(f"\n{folder.name}, tools/test.py, {checkpoint.name}")
        if checkpoint.exists():
            differences += check_checkpoint(checkpoint, info.get("checkpoint_sha256"))
        else:
            print("checkpoint: it has been removed")
            differences += not args.quick
        on_own_split = (info.get("split") or {}).get("name") == own_name
        cfg = config_of_test(args.work_dir, folder, on_own_split, args.data_root)
        if args.quick:
            now = evaluate_again(cfg, folder / FILE_NAME)
        elif checkpoint.exists():
            now = run_again(cfg, checkpoint)
        else:
            continue
        log = read_json(folder / f"{folder.name}.json")
        stored = {key: value for key, value in log.items() if "/" in key}
        differences += compare(stored, now, args.tolerance)
    if differences:
        sys.exit(f"error: {args.work_dir}: {differences} differences, see above")
    print(f"\n{args.work_dir}: verified, nothing differs")


def stored_tests(work_dir: Path) -> list[tuple[Path, dict]]:
    """The folders of finished evaluations in a run, and the info of their predictions.

    Raises:
        InputError: A file is damaged.
    """
    tests = []
    for path in sorted(work_dir.glob(f"*/{FILE_NAME}")):
        info = read_json(path)["info"]
        # Others are of images without ground truth, or were killed.
        log = path.parent / f"{path.parent.name}.json"
        if info.get("subset") == "val" and log.exists():
            tests.append((path.parent, info))
    return tests


def config_of_test(
    work_dir: Path, folder: Path, own_split: bool, data_root: Path | None
) -> Config:
    """The config of a test in a run, where the data is now.

    Args:
        work_dir: The run's folder.
        folder: That of the test.
        own_split: Whether it was on the run's split, which is in ``split.json``.
        data_root: Of the images; None for that of the run.
    """
    cfg = read_config(folder / "vis_data/config.py")
    if own_split and (split := split_of_run(work_dir)):
        set_split(cfg, split)
    record = read_json(work_dir / RUN) if (work_dir / RUN).exists() else {}
    set_data_root(cfg, data_root, record.get("data_root"))
    cfg.test_evaluator = [
        item for item in cfg.test_evaluator if item["type"] != "PredictionDump"
    ]
    return cfg


def check_data(work_dir: Path, cfg: Config) -> int:
    """Compare the files of the split with the run's record; the number of changes."""
    if not (work_dir / DATA).exists():
        print(f"{DATA}: missing, the data cannot be compared")
        return 0
    recorded = read_json(work_dir / DATA)["sha256"]
    files: dict[str, str] = {}
    for name in ("train_dataloader", "val_dataloader"):
        for settings in labelled_datasets(cfg.get(name) or {}):
            dataset = DATASETS.build({**settings, "pipeline": []})
            files.update(dataset.files())
    checksums = file_checksums(files)
    changed = sorted(
        name
        for name in recorded.keys() | checksums.keys()
        if recorded.get(name) != checksums.get(name)
    )
    for name in changed:
        state = {name in recorded: "is new", name in checksums: "is gone"}.get(False)
        print(f"data: {files.get(name, name)} {state or 'has changed'}")
    print(f"data: {len(recorded)} files recorded, {len(changed)} differ")
    return len(changed)


def check_checkpoint(path: Path, recorded: str | None) -> int:
    """Compare a checkpoint with its recorded SHA-256; 1 if it differs."""
    if recorded is None:
        print("checkpoint: its checksum was not recorded")
        return 0
    equal = file_checksum(path) == recorded
    print(f"checkpoint: {'as recorded' if equal else 'IT HAS CHANGED'}")
    return int(not equal)


def run_again(cfg: Config, checkpoint: Path) -> dict[str, float]:
    """Load the checkpoint and evaluate, as the test did; writes nothing."""
    cfg.launcher, cfg.resume, cfg.load_from = "none", False, str(checkpoint)
    cfg.log_level = "WARNING"
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.pop("visualization", None)
    # With test-time augmentation the detector is inside.
    cfg.model.get("module", cfg.model).backbone.init_cfg = None
    with tempfile.TemporaryDirectory() as folder:
        # MMEngine keeps loggers and visualisers by name, folders included.
        name = Path(folder).name
        cfg.work_dir, cfg.experiment_name = folder, name
        cfg.visualizer = {"type": "Visualizer", "name": name}
        return CellRunner.from_cfg(cfg).test()


def evaluate_again(cfg: Config, predictions: Path) -> dict[str, float]:
    """Evaluate the stored predictions."""
    dataset = cfg.test_dataloader.dataset
    if any(step["type"] == "TestTimeAug" for step in dataset.pipeline):
        dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    return evaluate_predictions(cfg, read_predictions(predictions))


def compare(stored: dict[str, float], now: dict[str, float], tolerance: float) -> int:
    """Print every metric, stored and now; return the number that differ."""
    differences = 0
    width = max(map(len, stored | now), default=0)
    print(f"{'':{width}}  {'stored':>10}  {'now':>10}")
    for name in stored | now:
        pair = stored.get(name), now.get(name)
        equal = None not in pair and np.isclose(
            *pair, rtol=0, atol=tolerance, equal_nan=True
        )
        differences += not equal
        values = "  ".join(f"{'-' if v is None else f'{v:.6g}':>10}" for v in pair)
        print(f"{name:{width}}  {values}  {'equal' if equal else 'DIFFERENT'}")
    return differences


if __name__ == "__main__":
    run_tool(main)
