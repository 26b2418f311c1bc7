"""Evaluate a run again and compare with the metrics that it stores.

Examples::

    python tools/analysis/verify_run.py work_dirs/RUN            # runs the network
    python tools/analysis/verify_run.py work_dirs/RUN --quick    # from predictions.json

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
    cfg = config_of_test(args.work_dir, *tests[0], args.data_root)
    differences = check_data(args.work_dir, cfg)
    for folder, info in tests:
        cfg = config_of_test(args.work_dir, folder, info, args.data_root)
        checkpoint = args.work_dir / Path(info["checkpoint"]).name
        print(f"\n{folder.name}, tools/test.py, {checkpoint.name}")
        recorded = info.get("checkpoint_sha256")
        if recorded and (checkpoint.exists() or not args.quick):
            same = file_checksum(checkpoint) == recorded
            print(f"checkpoint: {'as recorded' if same else 'IT HAS CHANGED'}")
            differences += not same
        if args.quick:
            now = evaluate_again(cfg, folder / FILE_NAME)
        else:
            now = run_again(cfg, checkpoint)
        log = read_json(folder / f"{folder.name}.json")
        stored = {key: value for key, value in log.items() if "/" in key}
        differences += compare(stored, now, args.tolerance)
    if differences:
        sys.exit(f"error: {args.work_dir}: {differences} differences, see above")
    print(f"\n{args.work_dir}: verified, nothing differs")


def stored_tests(work_dir: Path) -> list[tuple[Path, dict]]:
    """The folders of finished evaluations in a run, and the info of their predictions.

    Raises:
        InputError: There are none, or a file is damaged.
    """
    tests = []
    for path in sorted(work_dir.glob(f"*/{FILE_NAME}")):
        info = read_json(path)["info"]
        # Others are of images without ground truth, or were killed.
        log = path.parent / f"{path.parent.name}.json"
        if info.get("subset") == "val" and log.exists():
            tests.append((path.parent, info))
    if not tests:
        raise InputError(
            work_dir,
            "it stores no metrics that can be compared",
            "Evaluate it with tools/test.py first",
        )
    return tests


def config_of_test(
    work_dir: Path, folder: Path, info: dict, data_root: Path | None
) -> Config:
    """The config of a test in a run, where the data is now.

    Args:
        work_dir: The run's folder.
        folder: That of the test.
        info: Of its predictions.
        data_root: Of the images; None for that of the run.
    """
    cfg = read_config(folder / "vis_data/config.py")
    split = split_of_run(work_dir)
    if split and (info.get("split") or {}).get("name") == Split.load(split).name:
        set_split(cfg, split)
    record = read_json(work_dir / RUN) if (work_dir / RUN).exists() else {}
    set_data_root(cfg, data_root, record.get("data_root"))
    cfg.test_evaluator = [
        item for item in cfg.test_evaluator if item["type"] != "PredictionDump"
    ]
    return cfg


def check_data(work_dir: Path, cfg: Config) -> int:
    """Compare the files of the run's split with its record; the number of changes."""
    if not (work_dir / DATA).exists():
        print(f"{DATA}: missing, the data cannot be compared")
        return 0
    recorded = read_json(work_dir / DATA)["sha256"]
    if split := split_of_run(work_dir):
        set_split(cfg, split)
    files: dict[str, str] = {}
    for name in ("train_dataloader", "val_dataloader"):
        for settings in labelled_datasets(cfg.get(name) or {}):
            dataset = DATASETS.build({**settings, "pipeline": []})
            files.update(dataset.files())
    # The names of files that were added, removed or changed.
    changed = {name for name, _ in recorded.items() ^ file_checksums(files).items()}
    for name in sorted(changed):
        print(f"data: {files.get(name, name)} has changed")
    print(f"data: {len(recorded)} files recorded, {len(changed)} differ")
    return len(changed)


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
    for name in stored | now:
        pair = stored.get(name, np.nan), now.get(name, np.nan)
        equal = np.isclose(*pair, rtol=0, atol=tolerance, equal_nan=True)
        differences += not equal
        verdict = "equal" if equal else "DIFFERENT"
        print(f"{name:40}  {pair[0]:10.6g}  {pair[1]:10.6g}  {verdict}")
    return differences


if __name__ == "__main__":
    run_tool(main)
