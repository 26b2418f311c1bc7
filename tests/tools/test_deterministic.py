"""--deterministic promises what holds: equal weights on a CPU, not quite on a GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import RUNNERS

TOOL = "tools/train.py"


@pytest.mark.parametrize("gpu", [False, True])
def test_a_run_on_a_gpu_is_warned(run_tool, repo, tmp_path, monkeypatch, gpu):
    """tests/reliability compares the weights of two runs on a CPU."""
    configs, warnings = [], []
    runner = SimpleNamespace(
        train=lambda: None, logger=SimpleNamespace(warning=warnings.append)
    )
    monkeypatch.setattr(RUNNERS, "build", lambda cfg: configs.append(cfg) or runner)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    config = repo / "configs/demo/maskrcnn_r18-slim.py"
    run_tool(TOOL, config, "--work-dir", tmp_path / "run", "--deterministic")
    assert configs[0].randomness.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert ["RoIAlign" in warning for warning in warnings] == [True] * gpu
