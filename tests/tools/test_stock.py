"""Stock MMDetection: its tools run the configs, its parts give the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

from tests.tools.test_train_and_test import DEMO
from tests.tools.test_train_and_test import run as run_tool_of_checkout

STOCK = Path(mmdet.__file__).parent / ".mim" / "tools"
ASSIGNER = """
_base_ = {base!r}
assigner = dict(assigner=dict(type='MaxIoUAssigner'))
model = dict(train_cfg=dict(rpn=assigner, rcnn=assigner))
"""
BITMAPS = """
_base_ = {base!r}
train_pipeline = [*_base_.train_pipeline]
train_pipeline.insert(2, dict(type='ToBitmapMasks'))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(roi_head=dict(mask_head=dict(type='FCNMaskHead')))
"""
SMALL = ["model.test_cfg.rcnn.max_per_img=20", "default_hooks.logger.interval=1"]


def run(root: Path, work_dir: Path, tool: str, *arguments: object) -> str:
    """What a stock tool prints, started outside of the checkout."""
    # Loader workers that never end keep the pipes open: a file instead.
    log = work_dir.parent / "log.txt"
    with log.open("w") as file:
        process = subprocess.run(
            [sys.executable, STOCK / tool, *map(str, arguments)],
            cwd=work_dir.parent,
            env={**os.environ, "CELL_DATA_ROOT": str(root)},
            stdout=file,
            stderr=file,
            timeout=900,
        )
    assert process.returncode == 0, log.read_text()[-3000:]
    return log.read_text()


@pytest.mark.slow
def test_the_demo_trains_resumes_and_tests(repo, tiny_root, tmp_path):
    """With loader workers: those that ignored SIGTERM kept Python from exiting."""
    config, work_dir = repo / "configs/demo/maskrcnn_r18-slim.py", tmp_path / "run"
    options = [*SMALL, "default_hooks.checkpoint.interval=2", "train_cfg.max_iters=4"]
    command = ("train.py", config, "--work-dir", work_dir)
    run(tiny_root, work_dir, *command, "--cfg-options", *options)
    # As if it had been killed after the second iteration.
    (work_dir / "iter_4.pth").unlink()
    (work_dir / "last_checkpoint").write_text(str(work_dir / "iter_2.pth"))
    log = run(tiny_root, work_dir, *command, "--resume", "--cfg-options", *options)
    assert "Iter(train) [4/4]" in log and "Iter(train) [2/4]" not in log
    assert json.loads((work_dir / "run.json").read_text())["resumed"]
    command = ("test.py", config, work_dir / "iter_4.pth", "--work-dir", work_dir)
    assert "coco/segm_mAP_50" in run(tiny_root, work_dir, *command)


@pytest.mark.slow
def test_the_baseline_trains_and_its_saved_config_is_what_ran(
    repo, tiny_root, tmp_path
):
    config, work_dir = repo / "configs/cell/maskrcnn_r50.py", tmp_path / "run"
    log = run(
        *(tiny_root, work_dir, "train.py", config, "--work-dir", work_dir),
        *("--cfg-options", *SMALL, "model.backbone.init_cfg=None"),
        *("train_cfg.max_epochs=1", "train_dataloader.batch_size=4"),
    )
    assert "coco/segm_mAP_50" in log and "trainable of" in log
    saved = (work_dir / "maskrcnn_r50.py").read_text()
    assert "runner_type = 'CellRunner'" in saved and "ResumableEpochLoop" in saved


@pytest.mark.slow
def test_twenty_iterations_have_the_losses_of_the_stock_parts(
    repo, tiny_root, tmp_path
):
    configs = {"ours": DEMO}
    for name, text in (("assigner", ASSIGNER), ("bitmaps", BITMAPS)):
        configs[name] = tmp_path / f"{name}.py"
        configs[name].write_text(text.format(base=str(repo / DEMO)))
    losses = {}
    for name, config in configs.items():
        options = ["train_cfg.max_iters=20", "train_cfg.val_interval=1000"]
        options += ["default_hooks.logger.interval=1", "train_dataloader.num_workers=0"]
        options.append("train_dataloader.persistent_workers=False")
        command = ("tools/train.py", config, "--work-dir", tmp_path / name)
        run_tool_of_checkout(
            *(repo, tiny_root, *command, "--cfg-options", *options),
            OMP_NUM_THREADS="1",
        )
        (file,) = (tmp_path / name).glob("*/vis_data/scalars.json")
        rows = [json.loads(line) for line in file.open()]
        losses[name] = [
            {k: v for k, v in row.items() if k.startswith("loss")}
            for row in rows
            if "loss" in row
        ]
    assert len(losses["ours"]) == 20
    # To the bit: the assignment and the order of additions are the same on a CPU.
    assert losses["ours"] == losses["assigner"]
    # Rounding decides a target pixel of which half is inside (one in thousands).
    for ours, stock in zip(losses["ours"], losses["bitmaps"], strict=True):
        assert ours == pytest.approx(stock, rel=1e-2)
