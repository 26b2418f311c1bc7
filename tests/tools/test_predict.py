"""tools/predict.py, and tools/test.py with tiles and --tta, as a user types them."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import tifffile
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from custom.evaluation import read_predictions
from custom.io.image import read_image
from tests.oracle_detector import by_score, data_of

DEMO, TILES = (f"configs/demo/maskrcnn_r18-slim{n}.py" for n in ("", "_tiles"))
OPTIONS = (
    "model.test_cfg.rcnn.score_thr=0.0",
    "model.test_cfg.rcnn.max_per_img=10",
    "model.test_cfg.rpn.max_per_img=20",
)
SMALL_TILES = ("model.tile_size=64", "model.overlap=16", "model.tile_batch=3")


@pytest.fixture(scope="module")
def checkpoint(repo, tmp_path_factory):
    """Random weights; the metainfo that a training writes."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(repo / DEMO)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.pth"
    meta = {"dataset_meta": {"classes": [f"class{i}" for i in range(1, 5)]}}
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict(), "meta": meta}, path)
    return path


@pytest.fixture(scope="module")
def image(tiny_root, tmp_path_factory):
    """A test image again and again side by side, 96 x 96 of it."""
    pixels = read_image(sorted((tiny_root / "test_release").glob("*.tif"))[0])
    path = tmp_path_factory.mktemp("image") / "cells.tif"
    tifffile.imwrite(path, np.tile(pixels, (3, 3, 1))[:96, :96], photometric="rgb")
    return path


def predict(run_tool, config, checkpoint, *arguments):
    return run_tool(
        "tools/predict.py", config, checkpoint, *arguments, "--cfg-options", *OPTIONS
    )


def test_tiles_of_a_file_give_what_the_tiled_model_gives(
    repo, run_tool, checkpoint, image, tmp_path
):
    said = predict(
        run_tool, DEMO, checkpoint, image, "-o", tmp_path, "--tile-size", 64,
        "--overlap", 16, "--batch", 3,
    )  # fmt: skip
    assert "cells in 4 tiles" in said
    (found,) = read_predictions(tmp_path / f"{image.stem}.json").images
    cfg = Config.fromfile(repo / TILES)
    cfg.model.update(tile_size=64, overlap=16, tile_batch=3)
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
    cfg.model.test_cfg.rpn.max_per_img = 20
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint)["state_dict"])
    pixels = read_image(image)
    data = data_of(np.zeros(pixels.shape[:2], np.int32))
    bgr = np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))
    with torch.no_grad():
        (sample,) = model.test_step({**data, "inputs": [torch.from_numpy(bgr)]})
    expected = by_score(sample.pred_instances)
    assert found.size == (96, 96) and found.name == image.name
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes, expected.bboxes, atol=0.02)
    assert found.rles == expected.masks.to_rle()


def test_images_of_any_kind_and_tta_are_written_whole_with_their_classes(
    run_tool, checkpoint, image, tmp_path
):
    pixels = read_image(image)
    cv2.imwrite(str(tmp_path / "small.png"), pixels[:33, :86, ::-1])
    tifffile.imwrite(
        tmp_path / "tiled.tif", pixels[:80], tile=(32, 32), photometric="rgb"
    )
    out = tmp_path / "out"
    images = tmp_path / "small.png", tmp_path / "tiled.tif"
    predict(run_tool, TILES, checkpoint, *images, "-o", out, "--tta", "--tile-size", 64)
    assert sorted(p.name for p in out.iterdir()) == ["small.json", "tiled.json"]
    for path, size in ((out / "small.json", (33, 86)), (out / "tiled.json", (80, 96))):
        data = json.loads(path.read_text())
        assert [c["name"] for c in data["categories"]][3] == "class4"
        (found,) = read_predictions(path).images
        assert found.size == size and len(found) > 0
        areas = [a["area"] for a in data["annotations"]]
        assert areas == coco_mask.area(found.rles).tolist()


def test_bad_input_ends_in_one_sentence_and_nothing_is_written(
    run_tool, checkpoint, image, tmp_path
):
    twin = tmp_path / "twin" / image.name
    twin.parent.mkdir()
    shutil.copy(image, twin)
    out = tmp_path / "out"
    cases = {
        "does not exist": ["no.tif"],
        "another image": [image, twin],
        "not smaller than the tile": [image, "--tile-size", 64, "--overlap", 64],
    }
    for words, arguments in cases.items():
        with pytest.raises(SystemExit, match=words):
            predict(run_tool, DEMO, checkpoint, *arguments, "-o", out)
    with pytest.raises(SystemExit, match="checkpoint does not exist"):
        predict(run_tool, DEMO, tmp_path / "no.pth", image, "-o", out)
    assert not out.exists()
    out.mkdir()
    (out / f"{image.stem}.json").write_text("mine")
    with pytest.raises(SystemExit, match="exists already"):
        predict(run_tool, DEMO, checkpoint, image, "-o", out)
    assert (out / f"{image.stem}.json").read_text() == "mine"


@pytest.mark.parametrize("options", [["--format-only"], ["--show-dir", "pictures"]])
def test_tta_in_tiles_evaluates_submits_and_draws(
    run_tool, tiny_root, checkpoint, tmp_path, monkeypatch, options
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELL_SPLIT", "random_80-20_seed0")
    run_tool(
        "tools/test.py", TILES, checkpoint, "--tta", "--work-dir", tmp_path, *options,
        "--cfg-options", *OPTIONS, *SMALL_TILES, "val_dataloader.num_workers=0",
        "val_dataloader.persistent_workers=False",
        "test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False",
        "submission_dataloader.num_workers=0",
    )  # fmt: skip
    (found,) = tmp_path.glob("*/predictions.json")
    predictions = read_predictions(found)
    assert any(len(image) > 10 for image in predictions.images)  # several tiles
    written = (
        "*/submission.zip" if options[0] == "--format-only" else "*/pictures/*.png"
    )
    assert list(tmp_path.glob(written))
