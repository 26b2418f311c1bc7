"""MMDetection's own tools/train.py and test.py run the configs and exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

STOCK = Path(mmdet.__file__).parent / ".mim" / "tools"
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
