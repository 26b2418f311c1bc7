"""What a run writes and prints."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom.engine import MainLoggerHook
from custom.engine.logging import keep_dumps_off_screen

METRICS = {"coco/segm_mAP": np.float64(0.1), "cell/PQ": torch.tensor(0.5), "images": 3}


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_writes_test_metrics(tmp_path, monkeypatch, rank):
    monkeypatch.setattr("mmengine.dist.utils.get_rank", lambda group=None: rank)
    printed = []
    runner = SimpleNamespace(
        log_dir=str(tmp_path),
        test_dataloader=[0],
        logger=SimpleNamespace(info=printed.append),
        log_processor=SimpleNamespace(
            get_log_after_epoch=lambda *args, **kwargs: (METRICS, "metrics")
        ),
    )
    hook = MainLoggerHook()
    hook.json_log_path = "20260101_000000.json"
    hook.after_test_epoch(runner)
    files = list(tmp_path.iterdir())
    assert len(files) == (1 if rank == 0 else 0)
    for file in files:
        assert file.name == hook.json_log_path
        expected = {"coco/segm_mAP": 0.1, "cell/PQ": 0.5, "images": 3}
        assert json.loads(file.read_text()) == expected


def test_dumps_go_to_the_log_file_only(tmp_path, capsys):
    logger = logging.getLogger("test_dumps")
    logger.handlers = [
        logging.StreamHandler(sys.stderr),
        logging.FileHandler(tmp_path / "log"),
    ]
    keep_dumps_off_screen(logger)
    logger.warning("Hooks will be executed in the following order:\nmany")
    logger.warning("Saving checkpoint at 2 iterations")
    assert capsys.readouterr().err == "Saving checkpoint at 2 iterations\n"
    assert "many" in (tmp_path / "log").read_text()
