"""Evaluate a run again and compare with the metrics that it stores.

Examples::

    python tools/verify_run.py work_dirs/RUN            # runs the network
    python tools/verify_run.py work_dirs/RUN --quick    # from predictions.json

Compares the data files and the checkpoints with the recorded SHA-256, then repeats the
validation of the checkpoint's step and every evaluation by tools/test.py in the folder,
each with its own config, split and checkpoint. Prints every metric, stored and now, and
ends with an error if anything differs. Nothing is written into the folder. The config
of a run is code: verify only runs that you trust.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.datasets.splits import Split
from custom.engine.configs import labelled_datasets, set_data_root, set_split
from custom.engine.record import CHECKPOINTS, DATA, RUN
from custom.engine.runner import CellRunner
from custom.engine.runs import (
    checkpoint_of_run,
    config_of_run,
    read_config,
    split_of_run,
)
from custom.errors import InputError, run_tool
from custom.evaluation import read_predictions
from custom.evaluation.predictions import FILE_NAME
from custom.io.checkpoint import read_checkpoint
from custom.io.checksums import file_checksum, file_checksums
from custom.io.json_file import read_json
from custom.workbench.analysis.results import evaluate_predictions
from custom.workbench.report.run import read_scalars


@dataclass
class Evaluation:
    """Metrics that a run stores, and their inputs.

    Attributes:
        title: Printed above its metrics.
        cfg: The config of the evaluation.
        checkpoint: The evaluated file.
        checksum: Its recorded SHA-256; None if there is none.
        metrics: The stored values.
        predictions: The file of predictions; None for a validation.
    """

    title: str
    cfg: Config
    checkpoint: Path
    checksum: str | None
    metrics: dict[str, float]
    predictions: Path | None


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
        help="how much metrics may differ; for another machine than the run's",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder of the data; default: that of the run",
    )
    return parser.parse_args()


def main() -> None:
    """Compare everything; end with 1 if something differs."""
    args = parse_args()
    init_default_scope("mmdet")
    evaluations = find_evaluations(args.work_dir, args.data_root)
    if args.quick:
        evaluations = [e for e in evaluations if e.predictions is not None]
    if not evaluations:
        raise InputError(
            args.work_dir,
            "it stores no metrics that can be compared",
            "Evaluate it with tools/test.py first",
        )
    differences = check_data(args.work_dir, evaluations[0].cfg)
    for evaluation in evaluations:
        print(f"\n{evaluation.title}")
        if not evaluation.checkpoint.exists():
            print(f"{evaluation.checkpoint} has been removed")
            if not args.quick:
                differences += 1
                continue
        else:
            differences += check_checkpoint(evaluation)
        now = evaluate_again(evaluation) if args.quick else run_again(evaluation)
        differences += compare(evaluation.metrics, now, args.tolerance)
    if differences:
        sys.exit(f"error: {args.work_dir}: {differences} differences, see above")
    print(f"\n{args.work_dir}: verified, nothing differs")


def find_evaluations(work_dir: Path, data_root: Path | None) -> list[Evaluation]:
    """The evaluations that a run folder stores: a validation, and tests.

    Raises:
        InputError: It is not a run folder, or a file in it is damaged.
    """
    record = read_json(work_dir / RUN) if (work_dir / RUN).exists() else {}
    split = split_of_run(work_dir)

    def load(path: Path, own_split: bool) -> Config:
        cfg = read_config(path)
        if own_split and split is not None:
            set_split(cfg, split)
        set_data_root(cfg, data_root, record.get("data_root"))
        return cfg

    checkpoint = checkpoint_of_run(work_dir)
    recorded = work_dir / CHECKPOINTS
    checksum = (read_json(recorded) if recorded.exists() else {}).get(checkpoint.name)
    step = read_checkpoint(checkpoint)["meta"]["iter"]
    evaluations = []
    for row in reversed(read_scalars(work_dir)):
        if row.get("step") == step and (metrics := _metrics(row)):
            title = f"Validation in the training, step {step}, {checkpoint.name}"
            cfg = load(config_of_run(work_dir), own_split=True)
            evaluations.append(
                Evaluation(title, cfg, checkpoint, checksum, metrics, None)
            )
            break
    for path in sorted(work_dir.glob(f"*/{FILE_NAME}")):
        config, log = path.parent / "vis_data/config.py", path.parent / path.parent.name
        log = log.with_suffix(".json")
        info = read_json(path)["info"]
        if info.get("subset") != "val" or not (config.exists() and log.exists()):
            continue  # images without ground truth, or a test that was killed
        same = split and (info.get("split") or {}).get("name") == Split.load(split).name
        evaluations.append(
            Evaluation(
                f"{path.parent.name}, tools/test.py, {Path(info['checkpoint']).name}",
                load(config, own_split=bool(same)),
                work_dir / Path(info["checkpoint"]).name,
                info.get("checkpoint_sha256"),
                _metrics(json.loads(log.read_text())),
                path,
            )
        )
    return evaluations


def _metrics(row: dict) -> dict[str, float]:
    """The metrics of a row of a log: all but times and counters."""
    return {key: value for key, value in row.items() if "/" in key}


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


def check_checkpoint(evaluation: Evaluation) -> int:
    """Compare a checkpoint with its record; 1 if it is another file."""
    if evaluation.checksum is None:
        print("checkpoint: its checksum was not recorded")
        return 0
    equal = file_checksum(evaluation.checkpoint) == evaluation.checksum
    print(f"checkpoint: {'as recorded' if equal else 'IT HAS CHANGED'}")
    return 0 if equal else 1


def run_again(evaluation: Evaluation) -> dict[str, float]:
    """Load the checkpoint and evaluate, as the run did; writes nothing."""
    cfg = evaluation.cfg
    cfg.launcher, cfg.resume, cfg.load_from = "none", False, str(evaluation.checkpoint)
    cfg.log_level = "WARNING"
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.pop("visualization", None)
    cfg.test_evaluator = list(_without_dumps(cfg.test_evaluator))
    # With test-time augmentation the detector is inside.
    detector = cfg.model.get("module", cfg.model)
    detector.backbone.init_cfg = None
    with tempfile.TemporaryDirectory() as folder:
        # MMEngine keeps loggers and visualisers by name, folders included.
        name = Path(folder).name
        cfg.work_dir, cfg.experiment_name = folder, name
        cfg.visualizer = {"type": "Visualizer", "name": name}
        runner = CellRunner.from_cfg(cfg)
        return runner.val() if evaluation.predictions is None else runner.test()


def evaluate_again(evaluation: Evaluation) -> dict[str, float]:
    """Evaluate the stored predictions."""
    cfg = evaluation.cfg
    cfg.test_evaluator = list(_without_dumps(cfg.test_evaluator))
    dataset = cfg.test_dataloader.dataset
    if any(step["type"] == "TestTimeAug" for step in dataset.pipeline):
        dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    return evaluate_predictions(cfg, read_predictions(evaluation.predictions))


def _without_dumps(evaluators: dict | list[dict]) -> Iterator[dict]:
    """The evaluators that compute metrics and write no files."""
    for item in evaluators if isinstance(evaluators, list) else [evaluators]:
        if item["type"] != "PredictionDump":
            yield item


def compare(stored: dict[str, float], now: dict[str, float], tolerance: float) -> int:
    """Print every metric, stored and now; return the number that differ."""
    differences = 0
    width = max(map(len, stored | now), default=0)
    print(f"{'':{width}}  {'stored':>10}  {'now':>10}")
    for name in stored | now:
        pair = stored.get(name), now.get(name)
        equal = _equal(*pair, tolerance)
        differences += not equal
        values = "  ".join(f"{'-' if v is None else f'{v:.6g}':>10}" for v in pair)
        print(f"{name:{width}}  {values}  {'equal' if equal else 'DIFFERENT'}")
    return differences


def _equal(a: float | None, b: float | None, tolerance: float) -> bool:
    if a is None or b is None:
        return False
    return abs(a - b) <= tolerance or (math.isnan(a) and math.isnan(b))


if __name__ == "__main__":
    run_tool(main)
