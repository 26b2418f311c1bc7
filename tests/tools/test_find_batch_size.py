"""The largest batch is found with few trials, and on the images that need most."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

TOOL = "tools/analysis/find_batch_size.py"
DEMO = "configs/demo/maskrcnn_r18-slim.py"


@pytest.fixture(scope="module")
def tool(repo) -> dict:
    """The functions of the tool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        return runpy.run_path(str(repo / TOOL))


@settings(deadline=None)
@given(fit=st.integers(0, 300), most=st.integers(1, 200))
def test_search_finds_what_fits_with_few_trials(tool, fit, most):
    tried = []

    def measure(size: int):
        tried.append(size)
        return tool["Measurement"](size, peak=float(size), limit=float(fit))

    found = [m.size for m in tool["search"](measure, most)]
    assert found == [size for size in tried if size <= fit]
    assert len(set(tried)) == len(tried) <= 2 + 2 * most.bit_length()
    assert max(tried) <= most
    best, true = max(found, default=0), min(fit, most)
    assert 0.8 * true <= best <= true


def test_a_size_that_ended_early_does_not_fit(tool):
    assert not tool["Measurement"](4, peak=None, limit=9.0).fits
    assert not tool["Measurement"](4, peak=9.5, limit=9.0).fits


class Draws:
    """Images whose draws differ; the widest one has no instance."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> dict:
        count = 0 if index == 4 else int(torch.randint(10 * index + 1, ()))
        sample = DetDataSample()
        sample.gt_instances = InstanceData(labels=torch.zeros(count))
        return {
            "inputs": torch.zeros(3, 8, 64 if index == 4 else 32 if index == 29 else 8),
            "data_samples": sample,
        }


@pytest.mark.parametrize("size", [1, 2, 40, 200])
def test_the_densest_of_many_draws_are_taken_and_padded_to_the_largest(tool, size):
    torch.manual_seed(0)
    samples = tool["densest"](Draws(), size)
    counts = [len(s["data_samples"].gt_instances) for s in samples]
    assert len(samples) == size
    # A single draw of the densest image has 145 on average.
    assert counts[0] > 200
    widths = {s["inputs"].shape[-1] for s in samples}
    assert max(widths) == 32 or size == 1


def test_hint_follows_the_two_rules(tool, repo):
    cfg = Config.fromfile(repo / DEMO)  # 0.001 for batches of 2
    lines = tool["learning_rate_hint"](cfg, 8)
    assert "0.001 is for batches of 2" in lines[0]
    assert lines[1].endswith(": 0.004.") and lines[2].endswith(": 0.002.")
    assert not tool["learning_rate_hint"](cfg, 2)


@pytest.mark.slow
def test_real_steps_are_measured_and_a_limit_is_kept(repo, tiny_root, monkeypatch):
    """What is too much is told, and not killed."""
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))

    def call(*options: str) -> list[str]:
        command = [sys.executable, TOOL, DEMO, "--limit-gb", "1.6", *options]
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    too_many = json.loads(call("--only", "128")[-1])
    assert too_many["peak"] is None and too_many["limit"] == 1.6
    (row,) = (line.split() for line in call("--most", "1") if line[:5] == "    1")
    assert 0.3 < float(row[1]) < 1.6 and float(row[3]) > 0
    assert row[2] == "1.60" and row[5] == "96x96"
