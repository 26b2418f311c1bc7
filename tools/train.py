"""Train a model.

Example::

    CELL_DATA_ROOT=data/hw3 python tools/train.py configs/cell/maskrcnn_r50.py

The run goes to work_dirs/<config>/: checkpoints, log, scalars, the resolved config and
the split. The options are those of MMDetection's tools/train.py. Another length of the
run: --cfg-options train_cfg.max_epochs=72 (or train_cfg.max_iters=450).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when torch is loaded: waiting threads sleep instead of spinning. Two runs on one
# machine are several times slower without it, one alone is not faster.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from mmengine.config import DictAction
from mmengine.registry import RUNNERS

from custom.engine.configs import drop_validation
from custom.engine.distributed import join_cpu_processes
from custom.engine.runs import guard_work_dir, read_config, resume
from custom.errors import run_tool
from custom.models.weights import prepare_weights


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the total batch size",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="ordered algorithms of PyTorch, slower. On a CPU each run then ends with "
        "the same weights; on a GPU not quite, because mmcv's RoIAlign adds gradients "
        "in any order",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="continue from a checkpoint, or from the newest of the work dir",
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
    # torch.distributed.launch passes this one
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main() -> None:
    """Check everything that can be checked, then train."""
    args = parse_args()
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = f"work_dirs/{Path(args.config).stem}"
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    if args.auto_scale_lr:
        cfg.auto_scale_lr.enable = True
    if args.deterministic:
        cfg.randomness.deterministic = True
        # cuBLAS reads it when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if args.resume is not None:
        resume(cfg, args.resume)
    else:
        guard_work_dir(cfg.work_dir)
    if drop_validation(cfg):
        print("All images train: no validation, no best checkpoint")
    if not cfg.get("resume"):
        prepare_weights(cfg)

    join_cpu_processes(cfg)
    runner = RUNNERS.build(cfg)
    if args.deterministic and torch.cuda.is_available():
        runner.logger.warning(
            "--deterministic on a GPU: two runs may differ in the last digits, because "
            "mmcv's RoIAlign adds gradients in any order"
        )
    runner.train()


if __name__ == "__main__":
    run_tool(main)
