"""One process writes the figures of a test, and a killed one leaves no half."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom.engine import MainLoggerHook

FIGURES = {"coco/segm_mAP": np.float64(0.1), "cell/PQ": torch.tensor(0.5), "images": 3}


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_writes_the_figures(tmp_path, monkeypatch, rank):
    monkeypatch.setattr("mmengine.dist.utils.get_rank", lambda group=None: rank)
    printed = []
    runner = SimpleNamespace(
        log_dir=str(tmp_path),
        test_dataloader=[0],
        logger=SimpleNamespace(info=printed.append),
        log_processor=SimpleNamespace(
            get_log_after_epoch=lambda *args, **kwargs: (FIGURES, "figures")
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
