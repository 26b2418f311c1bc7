"""The command that chooses post-processing: its config, its figures, its refusals."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.datasets import CellDataset
from custom.evaluation import RawPredictions
from custom.evaluation.raw_predictions import RawImage

TOOL = "tools/analysis/tune_postprocess.py"
CONFIG = "configs/demo/maskrcnn_r18-slim.py"


@pytest.fixture(autouse=True)
def _data(tiny_root, repo, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_SPLIT", "all")
    monkeypatch.chdir(repo)


@pytest.fixture
def raw(tiny_root, tmp_path) -> Path:
    """Every cell four times, moved by a few pixels, and noise of low score."""
    rng = np.random.default_rng(0)
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmdet")
    dataset = CellDataset(
        data_root=str(tiny_root),
        data_prefix={"img": "train"},
        pipeline=cfg.val_pipeline,
        test_mode=True,
    )
    y, x = np.mgrid[:28, :28] - 13.5
    disc = (1 / (1 + np.exp(np.hypot(y, x) - 13)) * 65535).astype(np.uint16)
    images = []
    for i in range(len(dataset)):
        sample = dataset[i]["data_samples"]
        boxes = np.tile(sample.gt_instances.bboxes.tensor.numpy(), (4, 1))
        boxes = boxes + rng.normal(0, 1, boxes.shape).astype(np.float32)
        scores = rng.uniform(0.3, 1, len(boxes)).astype(np.float32)
        order = np.argsort(-scores)
        images.append(
            RawImage(
                sample.img_id,
                sample.name,
                tuple(sample.ori_shape[:2]),
                np.tile(sample.gt_instances.labels.numpy(), 4)[order],
                scores[order],
                boxes[order],
                np.tile(disc, (len(boxes), 1, 1)),
            )
        )
    rcnn = {
        "score_thr": 0.05,
        "nms": {"type": "nms", "iou_threshold": 0.75},
        "max_per_img": 1000,
        "mask_thr_binary": 0.5,
    }
    info = {
        "config": CONFIG,
        "checkpoint": "none.pth",
        "split": {"name": "all", "rule": "all", "seed": 0},
        "subset": "val",
        "rcnn": rcnn,
        "max_dets": 5000,
    }
    path = tmp_path / "raw.npz"
    RawPredictions(CellDataset.METAINFO["classes"], images, info).save(path)
    return path


def test_config_inherits_the_models_and_holds_the_best(raw, run_tool, tmp_path):
    out = tmp_path / "configs" / "tuned.py"
    printed = run_tool(TOOL, raw, "-o", out)
    figures = re.search(r"ap50 ([\d.]+) -> ([\d.]+) on the 6 images", printed)
    before, after = figures.groups()
    assert float(after) > float(before) + 0.02
    (difference,) = re.findall(r"difference (\S+)", printed)
    assert float(difference) < 1e-6
    assert "The second figure is too good" in printed
    cfg, base = Config.fromfile(out), Config.fromfile(CONFIG)
    rcnn = cfg.model.test_cfg.rcnn
    assert rcnn.nms.iou_threshold < 0.75
    assert f"ap50 {before} -> {after}" in out.read_text()
    cfg.model.test_cfg.rcnn = base.model.test_cfg.rcnn
    assert cfg.to_dict() == base.to_dict()


def test_images_that_are_held_out_get_figures_of_their_own(raw, run_tool, tmp_path):
    printed = run_tool(TOOL, raw, "-o", tmp_path / "x.py", "--holdout", "50")
    assert "without regard to patients" in printed
    counts = re.search(r"on the (\d) images .* on (\d) that were held out", printed)
    assert sorted(map(int, counts.groups())) == [3, 3]
    assert "that were held out." in (tmp_path / "x.py").read_text()


def test_bad_input_is_refused_before_the_search(raw, run_tool, tmp_path):
    def refused(reason, *arguments):
        with pytest.raises(SystemExit, match=f"^error: .*{reason}"):
            run_tool(TOOL, *arguments)

    out = tmp_path / "x.py"
    refused("the file does not exist", tmp_path / "no.npz", "-o", out)
    refused("is in another file too", raw, raw, "-o", out)
    refused("is no share", raw, "-o", out, "--holdout", "100")
    refused("the config is not there", raw, "-o", out, "--config", "no.py")
    out.write_text("mine")
    refused("exists already", raw, "-o", out)
    assert out.read_text() == "mine"
