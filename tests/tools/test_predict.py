"""tools/predict.py, and tools/test.py with tiles and --tta, as a user types them."""

from __future__ import annotations

import argparse
import json
import re
import struct
import zlib

import cv2
import numpy as np
import pandas
import pytest
import tifffile
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from custom.evaluation import read_predictions
from custom.inference import Segmenter
from custom.io.image import read_image
from custom.workbench.predict import run
from custom.workbench.predict.inputs import find_images
from custom.workbench.predict.outputs import files_of
from custom.workbench.predict.result_folder import ResultFolder
from tests.drawn_network import DrawnNetwork, draw_cells
from tests.oracle_detector import by_score, data_of

DEMO, TILES = (f"configs/demo/maskrcnn_r18-slim{n}.py" for n in ("", "_tiles"))
OPTIONS = (
    "model.test_cfg.rcnn.score_thr=0.0",
    "model.test_cfg.rcnn.max_per_img=10",
    "model.test_cfg.rpn.max_per_img=20",
)
CLASSES = ("class1", "class2", "class3", "class4")
KINDS = ("overlay", "labels", "geojson", "coco", "csv")
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
        "tools/predict.py", config, checkpoint, *arguments, "--score-thr", 0,
        "--cfg-options", *OPTIONS,
    )  # fmt: skip


def test_tiles_of_a_file_give_what_the_tiled_model_gives(
    repo, run_tool, checkpoint, image, tmp_path
):
    predict(
        run_tool, DEMO, checkpoint, image, "-o", tmp_path, "--tile", 64,
        "--overlap", 16, "--batch-size", 3, "--save", "coco",
        "--several-classes", "--channel-order", "rgb",
    )  # fmt: skip
    (predictions,) = read_predictions(tmp_path / f"{image.stem}.json").images
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
    assert predictions.size == (96, 96) and predictions.name == image.name
    np.testing.assert_array_equal(predictions.labels, expected.labels)
    np.testing.assert_allclose(predictions.scores, expected.scores, rtol=1e-6)
    np.testing.assert_allclose(predictions.boxes, expected.bboxes, atol=0.02)
    assert predictions.rles == expected.masks.to_rle()


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
    predict(
        run_tool, TILES, checkpoint, *images, "-o", out, "--tta", "--tile", 64,
        "--save", *KINDS,
    )  # fmt: skip
    summary = pandas.read_csv(out / "summary.csv").set_index("image")
    for name, size in (("small", (33, 86)), ("tiled", (80, 96))):
        files = [f for kind in KINDS for f in files_of(kind, out / name, CLASSES)]
        files.remove(out / f"{name}_overlay.jpg")
        assert all(file.is_file() for file in files)
        data = json.loads((out / f"{name}.json").read_text())
        assert [c["name"] for c in data["categories"]] == list(CLASSES)
        (predictions,) = read_predictions(out / f"{name}.json").images
        assert predictions.size == size and len(predictions) > 0
        areas = [a["area"] for a in data["annotations"]]
        assert areas == coco_mask.area(predictions.rles).tolist()
        assert (
            summary.cells[name] == len(predictions) == len(pandas.read_csv(files[-1]))
        )
    names = {path.name for path in out.iterdir()}
    assert {"predict.json", "summary.csv"} < names
    assert len(names) == 2 * (6 + 4) + 3  # and the folder of the records


def bad_images(folder, pixels):
    """Files that are not to be predicted, by what is said of them."""
    big = struct.pack(">II5B", 100_000, 100_000, 8, 2, 0, 0, 0)
    part = b"IHDR" + big
    huge = b"\x89PNG\r\n\x1a\n"
    for chunk in (part, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"):
        crc = struct.pack(">I", zlib.crc32(chunk))
        huge += struct.pack(">I", len(chunk) - 4) + chunk + crc
    (folder / "huge.png").write_bytes(huge)
    (folder / "words.tif").write_text("these are words")
    (folder / "words.png").write_text("these are words")
    whole = (folder / "good.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(folder / "twelve.tif", np.zeros((9, 9, 12), np.uint8), **options)
    tifffile.imwrite(folder / "float.tif", pixels / 255.0, photometric="rgb")
    stack = {"photometric": "minisblack", "imagej": True, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(folder / "deep.tif", np.zeros((5, 9, 9), np.uint8), **stack)
    return {
        "huge.png": "more than 134217728 pixels",
        "words.tif": "not a readable TIFF",
        "words.png": "not a readable image",
        "cut.tif": "truncated",
        "twelve.tif": "12",
        "float.tif": "float64",
        "deep.tif": "stack of 5 planes",
    }


def test_bad_images_are_listed_at_the_end_and_do_not_stop_the_others(
    run_tool, checkpoint, image, tmp_path, capsys
):
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = read_image(image)[:40, :40]
    tifffile.imwrite(folder / "good.tif", pixels, photometric="rgb")
    tifffile.imwrite(folder / "page.tif", np.stack([pixels] * 2), photometric="rgb")
    cv2.imwrite(str(folder / "dot.jpg"), pixels[:1, :1])
    bad = bad_images(folder, pixels)
    with pytest.raises(SystemExit) as ended:
        predict(run_tool, DEMO, checkpoint, folder, "-o", tmp_path / "out")
    assert ended.value.code == 1
    said = capsys.readouterr()
    lines = re.findall("failed: .*", said.err)
    assert len(lines) == len(bad)
    for name, words in bad.items():
        (line,) = [line for line in lines if f"/{name}" in line]
        assert re.search(words, line), line
    assert f"4 of {4 + len(bad)} images" in said.out
    rows = pandas.read_csv(tmp_path / "out" / "summary.csv").image.tolist()
    assert sorted(rows) == ["dot", "good", "page_page1", "page_page2"]
    assert "Traceback" not in said.err


def test_a_call_resumes_where_another_was_stopped(
    run_tool, checkpoint, image, tmp_path
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = read_image(image)[:40, :40]
    for name in "abc":
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="rgb")

    def call(*more):
        said = predict(
            run_tool, DEMO, checkpoint, folder, "-o", out, "--save", "csv", *more
        )
        return {line.split("/")[-1][0] for line in said.splitlines() if "cells" in line}

    assert call() == {"a", "b", "c"}
    assert call() == set()
    # Killed between the table of b and its record, and while it wrote that of c.
    (out / ".finished" / "b.json").unlink()
    part = out / ".c.csv.0123456789abcdef.mmcell-part"
    (out / "c.csv").rename(part)
    assert call() == {"b", "c"} and not part.exists()
    tifffile.imwrite(folder / "a.tif", pixels[::-1], photometric="rgb")  # another image
    tifffile.imwrite(folder / "d.tif", pixels, photometric="rgb")
    assert call() == {"a", "d"}
    assert sorted(pandas.read_csv(out / "summary.csv").image) == list("abcd")
    assert call("coco") == {"a", "b", "c", "d"}  # one more kind of file
    with pytest.raises(SystemExit, match="overlap 192, not 16"):
        call("--overlap", 16)


def test_a_killed_large_image_resumes_at_its_rows_and_new_names_need_no_network(
    run_tool, checkpoint, image, tmp_path, monkeypatch
):
    rows, strip = [], Segmenter.strip

    def killed(self, scene, row):
        if len(rows) == 3:
            raise KeyboardInterrupt
        return counted(self, scene, row)

    def counted(self, scene, row):
        rows.append(row)
        return strip(self, scene, row)

    def call(out, *more):
        rows.clear()
        predict(
            run_tool, DEMO, checkpoint, image, "-o", out, "--tile", 20, "--overlap",
            10, "--save", "geojson", "csv", *more,
        )  # fmt: skip
        return list(rows)

    out = tmp_path / "out"
    monkeypatch.setattr(Segmenter, "strip", killed)
    with pytest.raises(KeyboardInterrupt):
        call(out)

    monkeypatch.setattr(Segmenter, "strip", counted)
    assert call(out) == list(range(3, 9))  # nine rows of nine tiles
    assert call(tmp_path / "again") == list(range(9))
    for name in ("cells.geojson", "cells.csv", "summary.csv"):
        resumed, whole = ((tmp_path / f / name).read_bytes() for f in ("out", "again"))
        assert resumed == whole
    assert not list(out.rglob("*.mmcell-part")) and not list(out.glob(".tiles/*"))
    names = ("round", "long", "odd", "rare")
    assert call(out, "--mpp", 0.25, "--class-names", *names) == []
    (row,) = pandas.read_csv(out / "summary.csv").to_dict("records")
    assert row["per_mm2_rare"] == pytest.approx(row["count_rare"] / row["area_mm2"])
    assert set(pandas.read_csv(out / "cells.csv")["class"]) <= set(names)
    assert call(out, "--mpp", 0.5) != []  # the network would see other pixels


def test_two_processes_write_what_one_writes_to_the_byte(tmp_path, monkeypatch):
    centers = [(y, x) for y in range(20, 300, 31) for x in range(20, 400, 37)]
    pixels = draw_cells((310, 420), centers, radius=8)
    paths = []
    for name in ("large", "small", "also"):
        size = (40, 60) if name == "small" else (310, 420)
        paths.append(tmp_path / f"{name}.tif")
        tifffile.imwrite(paths[-1], pixels[: size[0], : size[1]], photometric="rgb")
    images = find_images(paths)
    args = argparse.Namespace(
        save=list(KINDS), region=None, mpp=None, radius=100, radius_um=50
    )
    predicted = []
    monkeypatch.setattr(run, "exchange", lambda mine: None)

    def write(out, rank, world):
        segmenter = Segmenter(DrawnNetwork(), tile=48, overlap=20)
        strip = segmenter.strip
        segmenter.strip = lambda *a: predicted.append((a[0].name, a[1])) or strip(*a)
        folder = ResultFolder(tmp_path / out, args.save, segmenter.class_names, {})
        folder.begin(images, {})
        assert run.Run(args, segmenter, folder, rank, world).predict(images) == []
        folder.write_summary()

    # The first process comes last here: what it merges the other has left to it.
    for out, rank, world in (("one", 0, 1), ("two", 1, 2), ("two", 0, 2)):
        predicted.clear()
        write(out, rank, world)
        rows = {row % 2 for name, row in predicted if name != "small"}
        assert rows == ({0, 1} if world == 1 else {rank})
    one, two = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        for out in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) > 20 and one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_bad_input_ends_in_one_sentence_and_nothing_is_written(
    run_tool, checkpoint, image, tmp_path
):
    out = tmp_path / "out"
    for words, arguments in {
        "does not exist": ["no.tif"],
        "not smaller than the tile": [image, "--tile", 64, "--overlap", 64],
        "device nonsense": [image, "--device", "nonsense"],
        "score": [image, "--score-thr", "7"],
        "it needs a GPU": [image, "--amp", "--device", "cpu"],
    }.items():
        with pytest.raises(SystemExit, match=words):
            run_tool("tools/predict.py", DEMO, checkpoint, *arguments, "-o", out)
    assert not out.exists()
    out.mkdir()
    (out / f"{image.stem}.csv").write_text("mine")
    with pytest.raises(SystemExit, match="exists already"):
        predict(run_tool, DEMO, checkpoint, image, "-o", out)
    assert (out / f"{image.stem}.csv").read_text() == "mine"
    with pytest.raises(SystemExit, match="cannot be written"):
        predict(run_tool, DEMO, checkpoint, image, "-o", out / f"{image.stem}.csv")


def test_what_is_no_model_or_another_one_is_refused(
    run_tool, checkpoint, image, tmp_path
):
    whole = torch.load(checkpoint)
    files = {
        "it is for 2 classes": {
            **whole, "meta": {"dataset_meta": {"classes": ["a", "b"]}}
        },
        "not a checkpoint of a run": {"weights": whole["state_dict"]},
        "which classes": {"state_dict": whole["state_dict"]},
        "weights do not fit the network: Missing key": {
            **whole, "state_dict": {k: v for k, v in whole["state_dict"].items()
                                    if "mask_head" not in k}
        },
    }  # fmt: skip
    for number, (words, data) in enumerate(files.items()):
        path = tmp_path / f"{number}.pth"
        torch.save(data, path)
        with pytest.raises(SystemExit, match=words):
            predict(run_tool, DEMO, path, image, "-o", tmp_path / "out")
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:100_000])
    (tmp_path / "empty").mkdir()
    for words, model in {
        "not an exported model": [checkpoint],
        "damaged": [DEMO, tmp_path / "cut.pth"],
        "does not exist": [DEMO, tmp_path / "no.pth"],
        "file or folder does not exist": [tmp_path / "no"],
        "run": [tmp_path / "empty"],
        "not a config of a model": ["configs/_base_/runtime.py", checkpoint],
    }.items():
        with pytest.raises(SystemExit, match=words):
            run_tool("tools/predict.py", *model, image, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--format-only"], ["--show-dir", "overlays"]])
def test_tta_in_tiles_evaluates_submits_and_draws(
    run_tool, tiny_root, checkpoint, tmp_path, monkeypatch, options
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_SPLIT", "random_80-20_seed0")
    run_tool(
        "tools/test.py", TILES, checkpoint, "--tta", "--work-dir", tmp_path, *options,
        "--cfg-options", *OPTIONS, *SMALL_TILES, "val_dataloader.num_workers=0",
        "val_dataloader.persistent_workers=False",
        "test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False",
        "submission_dataloader.num_workers=0",
    )  # fmt: skip
    (result,) = tmp_path.glob("*/predictions.json")
    predictions = read_predictions(result)
    assert any(len(image) > 10 for image in predictions.images)  # several tiles
    written = (
        "*/submission.zip" if options[0] == "--format-only" else "*/overlays/*.png"
    )
    assert list(tmp_path.glob(written))
