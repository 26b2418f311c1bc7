"""The label-image path trains like the stock bitmaps."""

from __future__ import annotations

import json

import pytest

from tests.tools.test_train_and_test import DEMO, run

STOCK = """
_base_ = {base!r}
train_pipeline = [*_base_.train_pipeline]
train_pipeline.insert(2, dict(type='ToBitmapMasks'))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(roi_head=dict(mask_head=dict(type='FCNMaskHead')))
"""


@pytest.mark.slow
def test_twenty_iterations_have_the_losses_of_stock_bitmaps(repo, tiny_root, tmp_path):
    stock = tmp_path / "stock.py"
    stock.write_text(STOCK.format(base=str(repo / DEMO)))
    losses = []
    for name, config in (("ours", DEMO), ("stock", stock)):
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
        losses.append(
            [
                {k: v for k, v in row.items() if k.startswith("loss")}
                for row in rows
                if "loss" in row
            ]
        )
    assert len(losses[0]) == 20
    # To the bit: targets, boxes and order of additions are the same on a CPU.
    assert losses[0] == losses[1]
