"""Evaluate a checkpoint, or write the submission file.

Examples::

    python tools/test.py CONFIG work_dirs/RUN          # its best checkpoint
    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --format-only   # test-results.json and zip

The evaluation takes the validation images of the checkpoint's run (its split.json),
whatever the folder of images holds today. The output goes to a new folder,
<work dir>/<time>/; predictions.json there is for tools/ensemble.py and other programs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when torch is loaded: waiting threads sleep instead of spinning. Two runs on one
# machine are several times slower without it, one alone is not faster.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mmengine.config import Config, DictAction

from custom.engine.configs import set_split, set_submission, set_tta
from custom.engine.distributed import join_cpu_processes
from custom.engine.runner import CellRunner
from custom.engine.runs import checkpoint_of_run, read_config, split_of_run
from custom.errors import InputError, run_tool
from custom.evaluation import PredictionDump
from custom.io.checksums import file_checksum


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint", help="checkpoint, or a run's folder: its best, or else its last"
    )
    parser.add_argument("--work-dir", help="default: the folder of the checkpoint")
    parser.add_argument(
        "--format-only",
        action="store_true",
        help="predict the test images and write the submission; no evaluation",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: the views of the config's tta_views, merged",
    )
    parser.add_argument(
        "--show-dir", help="draw the images into <work dir>/<time>/<SHOW_DIR>"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that replace the config's: key=value, lists as key=[a,b]",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="program that starts the processes of a distributed run",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main() -> None:
    """Build the runner, then evaluate or write the submission."""
    args = parse_args()
    cfg = read_config(args.config)
    checkpoint = Path(args.checkpoint)
    if checkpoint.is_dir():
        checkpoint = checkpoint_of_run(checkpoint)
    if not checkpoint.is_file():
        raise InputError(
            checkpoint,
            "the checkpoint does not exist",
            "Check the name, or train first",
        )
    cfg.launcher, cfg.load_from, cfg.resume = args.launcher, str(checkpoint), False
    cfg.work_dir = args.work_dir or str(checkpoint.parent)
    if (split := split_of_run(checkpoint.parent)) is not None:
        set_split(cfg, split)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    # The checkpoint brings the weights.
    cfg.model.backbone.init_cfg = None
    if args.show_dir:
        cfg.default_hooks.visualization.update(
            draw=True, interval=1, test_out_dir=args.show_dir
        )
    if args.format_only:
        set_submission(cfg)
    add_evaluator(cfg, {"type": "PredictionDump", "info": {}})
    if args.tta:
        set_tta(cfg)
    join_cpu_processes(cfg)
    checksum = file_checksum(checkpoint)
    runner = TestRunner.from_cfg(cfg)
    dataset = runner.test_dataloader.dataset
    split = getattr(dataset, "split", None)
    for metric in runner.test_evaluator.metrics:
        # The folder of this run's log does not exist before the runner does.
        if hasattr(metric, "out_dir"):
            metric.out_dir = Path(runner.log_dir)
        if isinstance(metric, PredictionDump):
            metric.info.update(
                config=args.config,
                checkpoint=str(checkpoint),
                checkpoint_sha256=checksum,
                split=split
                and {"name": split.name, "rule": split.rule, "seed": split.seed},
                subset="test" if args.format_only else "val",
            )
    runner.test()


class TestRunner(CellRunner):
    """A runner that keeps the training's resolved config in the work dir."""

    def dump_config(self) -> None:
        """Nothing: <time>/vis_data/config.py is the config of this run."""


def add_evaluator(cfg: Config, evaluator: dict) -> None:
    """Add an evaluator to the one or several of a config."""
    present = cfg.test_evaluator
    present = present if isinstance(present, (list, tuple)) else [present]
    # The saved config of an earlier test has it already.
    other_types = [item for item in present if item["type"] != evaluator["type"]]
    cfg.test_evaluator = [*other_types, evaluator]


if __name__ == "__main__":
    run_tool(main)
