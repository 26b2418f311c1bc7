"""The first hour of three users, by the commands that README and docs tell them."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config

from custom.io.image import read_image
from custom.workbench.synthetic import draw_tile
from tests.conftest import forget_visualizers
from tests.small_run import write_run

# What makes a run short: every journey appends it to its commands.
SHORT = [
    "--cfg-options",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "submission_dataloader.num_workers=0",
    "model.test_cfg.rcnn.max_per_img=20",
]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


def commands(page: Path) -> list[str]:
    """The commands of a page, without comments and line breaks."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [" ".join(words) for words in lines if words]


@pytest.fixture
def typed(repo, run_tool, tmp_path, monkeypatch) -> Callable[..., str]:
    """Types a command of a page in a copy of the checkout; returns what it prints.

    Tools run in this process, also those that tools start: importing MMDetection takes
    seconds.
    """
    shutil.copytree(repo / "configs", tmp_path / "configs")
    (tmp_path / "tools").symlink_to(repo / "tools")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tmp_path / "cache"))
    # Formatting a config for the log takes longer than a training step.
    monkeypatch.setattr(
        "yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True)
    )
    real = subprocess.run

    def start(command, *args, **kwargs) -> subprocess.CompletedProcess:
        if command[0] != sys.executable:
            return real(command, *args, **kwargs)
        forget_visualizers()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [*map(str, command[1:])])
            runpy.run_path(str(command[1]), run_name="__main__")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", start)

    def type_(page: str, command: str, *more: str, **words: object) -> str:
        assert command in commands(repo / page), f"{page} lacks: {command}"
        for name, value in words.items():
            command = command.replace(name, str(value))
        program, *arguments = command.split()
        if program != "python":
            real([program, *arguments, *more], check=True)
            return ""
        forget_visualizers()
        return run_tool(*arguments, *more)

    return type_


@pytest.fixture
def released(repo, tiny_root, tmp_path) -> Path:
    """Six released regions and two test images; without ../shared, synthetic ones."""
    source = repo.parent / "shared/data/hw3_official"
    if not source.is_dir():
        return tiny_root
    root = tmp_path / "released"
    (root / "train").mkdir(parents=True)
    (root / "test_release").mkdir()
    regions = [
        path for path in (source / "train").iterdir() if len([*path.glob("class*")]) > 1
    ]
    regions.sort(key=lambda path: (path / "image.tif").stat().st_size)
    for region in regions[:6]:
        (root / "train" / region.name).symlink_to(region)
    ids = "test_image_name_to_ids.json"
    images = sorted(
        json.loads((source / ids).read_text()),
        key=lambda image: image["height"] * image["width"],
    )
    for image in images[:2]:
        path = source / "test_release" / image["file_name"]
        (root / "test_release" / path.name).symlink_to(path)
    (root / ids).write_text(json.dumps(images[:2]))
    return root


def is_submission(path: Path, root: Path) -> bool:
    """Whether a file and its zip are of the test images of a data set."""
    listed = json.loads((root / "test_image_name_to_ids.json").read_text())
    ids = {entry["image_id"] for entry in json.loads(path.read_text())}
    zipped = path.with_name("submission.zip").exists()
    return zipped and ids <= {entry["id"] for entry in listed}


@pytest.mark.slow
def test_a_student_submits(typed, repo, released, tmp_path, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(released))
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(tmp_path))
    torch.save(ResNet(50).state_dict(), tmp_path / "resnet50-0676ba61.pth")
    page, config = "README.md", "configs/cell/maskrcnn_r50.py"
    train = [*SHORT, "train_cfg.max_epochs=1", "train_dataloader.dataset.indices=2"]
    typed(page, f"python tools/train.py {config}", *train)
    test = f"python tools/test.py {config} work_dirs/maskrcnn_r50"
    assert "maxDets=1000" in typed(page, test, *SHORT)
    typed(page, f"{test} --format-only", *SHORT)
    (submission,) = Path("work_dirs/maskrcnn_r50").glob("*/test-results.json")
    assert is_submission(submission, released)
    typed(page, "python tools/report.py work_dirs/maskrcnn_r50")
    assert Path("work_dirs/maskrcnn_r50/report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_a_student_studies_two_ablations_in_folds(typed, repo, tiny_root, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    (ablation,) = (b for b in blocks(repo / "README.md", "python") if "_base_" in b)
    Path("configs/cell/ablations/mine.py").write_text(ablation)
    cfg = Config.fromfile("configs/cell/ablations/mine.py")
    assert cfg.model.rpn_head.anchor_generator.scales == [8]

    page = "docs/study.md"
    (study,) = (b for b in blocks(repo / page, "python") if "_base_" in b)
    Path("studies").mkdir()
    path = Path("studies/mine.py")
    # The study starts its runs in threads, where PreemptionHook cannot take signals.
    path.write_text(f"{study}\ncustom_hooks = []\n")
    short = {
        "demo/maskrcnn_r18-slim": "debug/maskrcnn_r18-slim_2i",
        "folds=3": "folds=2",
        "[42, 7, 8]": "[42]",
        "name='peak": "cost=1, name='peak",
    }
    edit(path, short)
    table = typed(page, "python tools/study.py studies/cells.py", cells="mine")
    for row in ("baseline", "peak rate 2e-3", "NMS .3"):
        assert f"| {row} | 2 (2) |" in table
    runs = "work_dirs/cells/baseline/seed-42"
    fuse = f"python tools/ensemble.py OUT {runs} --format-only"
    typed(page, fuse, cells="mine", OUT="folds")
    (submission,) = Path("folds").glob("*/test-results.json")
    assert is_submission(submission, tiny_root)


def write_layouts(source: Path, root: Path) -> None:
    """Write the cells of ``source`` as one PNG per cell, and as one label image."""
    for folder in sorted((source / "train").iterdir()):
        pixels = read_image(folder / "image.tif")[..., :3]  # blue, green, red
        labels = np.zeros(pixels.shape[:2], np.int32)
        for path in folder.glob("class*.tif"):
            labels = np.maximum(labels, tifffile.imread(path).astype(np.int32))
        if not labels.any():
            continue
        name = folder.name
        for part in (f"png/train/{name}/images", f"png/train/{name}/masks"):
            (root / part).mkdir(parents=True)
        for part in ("tif/train/images", "tif/train/masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"png/train/{name}/images/{name}.png"), pixels)
        for cell in np.unique(labels)[1:]:
            mask = np.where(labels == cell, 255, 0).astype(np.uint8)
            cv2.imwrite(str(root / f"png/train/{name}/masks/{cell}.png"), mask)
        tifffile.imwrite(root / f"tif/train/images/{name}.tif", pixels[..., ::-1])
        tifffile.imwrite(root / f"tif/train/masks/{name}.tif", labels)


def edit(path: Path, changes: dict[str, str]) -> None:
    """Edit a config as a user does; what is replaced must be there."""
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, f"{path} lacks: {old}"
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.slow
def test_an_mmdetection_user_trains_on_three_layouts(
    typed, repo, tiny_root, released, tmp_path, monkeypatch
):
    monkeypatch.delenv("CELL_DATA_ROOT", raising=False)
    write_layouts(tiny_root, tmp_path / "data")
    page, config = "docs/data.md", Path("configs/mine/own_data.py")
    copy = "cp -r configs/_template_ configs/mine"
    train = "python tools/train.py configs/mine/own_data.py"
    test = "python tools/test.py configs/mine/own_data.py work_dirs/own_data"
    # The slim model, and images at another scale.
    scaled = """
val_pipeline = [
    dict(step, scale_factor=1.5) if step['type'] == 'Resize' else step
    for step in val_pipeline
]
train_dataloader"""
    common = {
        "'../cell/maskrcnn_r50.py'": "'../demo/maskrcnn_r18-slim.py'",
        "\ntrain_dataloader": scaled,
    }
    short = [*SHORT, "train_cfg.max_iters=4", "train_cfg.val_interval=4"]
    (class_of,) = (b for b in blocks(repo / page, "python") if "class_of" in b)
    old = "class2='immune', class3='immune', class4='ignore'"
    assert old in class_of
    merged = class_of.replace(
        old, "class2='lymphocyte', class3='myeloid', class4='myeloid'"
    )
    layouts = {
        "tif": {},
        "png": {"LabelImageDataset": "NucleiDataset"},
        "merged": {
            "type='LabelImageDataset'": f"type='CellDataset', {merged.strip()}",
            "channel_order = 'rgb'": "channel_order = 'bgr'",
            "('nucleus', )": "('epithelial', 'lymphocyte', 'myeloid')",
        },
    }
    for name, changes in layouts.items():
        typed(page, copy)
        root = released if name == "merged" else tmp_path / "data" / name
        edit(config, {**common, **changes, "data/own": str(root)})
        typed(page, train, *short, "default_hooks.checkpoint.interval=4")
        assert "maxDets=1000" in typed(page, test, *SHORT)
        if name != "merged":
            shutil.rmtree("work_dirs/own_data")
            shutil.rmtree("configs/mine")
    audit = "python tools/data/audit.py configs/mine/own_data.py -o audit.html"
    assert "audit.html: 6 images" in typed(page, audit)
    images = released / "test_release"
    predict = "python tools/predict.py work_dirs/own_data NEW_IMAGES -o predictions"
    typed(page, predict, "--score-thr", "0", NEW_IMAGES=images)
    counts = pd.read_csv("predictions/summary.csv")
    assert len(counts) == 2 and "count_myeloid" in counts


@pytest.mark.slow
def test_two_processes_train_and_test(typed, tiny_root, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PORT", "29517")
    page, config = "docs/distributed.md", "configs/debug/maskrcnn_r18-slim_2i.py"
    accumulate = "--cfg-options optim_wrapper.accumulative_counts=4"
    train = f"tools/dist_train.sh CONFIG 1 {accumulate}"
    typed(page, train, "--work-dir", "two", **{"CONFIG 1": f"{config} 2"})
    test = "tools/dist_test.sh CONFIG CHECKPOINT 4 [options of test.py]"
    typed(page, test, **{test: f"tools/dist_test.sh {config} two/iter_2.pth 2"})
    assert len([*Path("two").glob("*/predictions.json")]) == 1


SLIDE = "Aperio Image Library v12\n640x480 (64x64) JPEG|AppMag = 40|MPP = 0.25"


@pytest.fixture
def images(tmp_path) -> Path:
    """A slide with levels, a JPEG, a PNG, a 16-bit TIFF and a TIFF in strips."""
    pixels = draw_tile(np.random.default_rng(0), (480, 640))[0]
    with tifffile.TiffWriter(tmp_path / "slide.svs") as writer:
        for step, more in ((1, {}), (4, {"subfiletype": 1})):
            level = np.ascontiguousarray(pixels[::step, ::step])
            writer.write(
                level, photometric="rgb", tile=(64, 64), metadata=None,
                description=SLIDE, **more,
            )  # fmt: skip
    part = pixels[:96, :128]
    for name in ("scans", "more/plate"):
        (tmp_path / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "scans/photo.jpg"), part[..., ::-1])
    cv2.imwrite(str(tmp_path / "more/plate/well.png"), part[..., ::-1])
    deep = part.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "scans/deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "scans/strips.tif", pixels, photometric="rgb")
    return tmp_path


@pytest.mark.slow
def test_a_biologist_counts_cells(typed, repo, images, monkeypatch):
    write_run(images / "work_dirs/RUN", repo)
    page = "docs/predict.md"
    command = (
        "python tools/predict.py work_dirs/RUN slide.svs scans/ more/**/*.png -o OUT"
    )
    typed(page, command)
    table = pd.read_csv("OUT/summary.csv").set_index("image")
    assert len(table) == 5 and (table["cells"] > 0).all()
    known = table.index[table.cells_per_mm2.notna()]
    assert [Path(name).stem for name in known] == ["slide"]
    typed(page, command, "--mpp", "0.25")  # without the network
    assert pd.read_csv("OUT/summary.csv").cells_per_mm2.notna().all()
    overlays = {path.name for path in Path("OUT").rglob("*_overlay.png")}
    assert len(overlays) == 5 and len([*Path("OUT").rglob("*.geojson")]) == 5

    (python,) = (b for b in blocks(repo / page, "python") if "Segmenter" in b)
    names = {}
    exec(python.replace("(0, 0, 4000, 4000)", "(0, 0, 400, 300)"), names)
    assert names["cells"].labels.shape == (300, 400)


def test_the_notebook_has_no_outputs(repo):
    cells = json.loads((repo / "docs/segmenter.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)


@pytest.mark.slow
def test_the_notebook_runs(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCELL_MODEL", str(write_run(tmp_path / "run", repo)))
    monkeypatch.delenv("MMCELL_IMAGE", raising=False)
    mpl.use("Agg")
    cells = json.loads((repo / "docs/segmenter.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["table"]) == len(names["cells"]) > 0
    assert (names["folder"] / "cells.csv").exists()


@pytest.mark.slow
def test_a_page_is_served_until_it_is_stopped(repo, images, monkeypatch):
    write_run(images / "work_dirs/RUN", repo)
    command = "python tools/serve.py work_dirs/RUN"
    assert command in commands(repo / "docs/serve.md")
    temporary = images / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, repo / "tools/serve.py", "work_dirs/RUN", "--port", "0"],
        cwd=images,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = ""
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/", printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        assert "warning" not in printed
        with urllib.request.urlopen(address[0]) as response:
            assert b"MMCell" in response.read()
        request = urllib.request.Request(
            f"{address[0]}results",
            (images / "more/plate/well.png").read_bytes(),
            {"X-File-Name": "well.png"},
        )
        with urllib.request.urlopen(request) as response:
            assert 0 < len(json.load(response)["cells"]) <= 10
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)
    # Others on the machine that make temporary folders use names of their own.
    assert not list(temporary.glob("mmcell-*"))
