"""Training follows MMDetection's own parts, loss by loss."""

from __future__ import annotations

import json

import pytest

from tests.tools.test_train_and_test import DEMO, run

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
        run(
            repo,
            tiny_root,
            "tools/train.py",
            config,
            "--work-dir",
            tmp_path / name,
            "--cfg-options",
            "train_cfg.max_iters=20",
            "train_cfg.val_interval=1000",
            "default_hooks.logger.interval=1",
            "train_dataloader.num_workers=0",
            "train_dataloader.persistent_workers=False",
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
