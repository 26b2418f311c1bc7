"""A run can be checked from its folder, and what was changed in it is found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from pycocotools import mask as coco_mask

from custom.workbench.synthetic import write_dataset
from tests.tools.test_train_and_test import DEMO, QUICK, run

TOOL = "tools/verify_run.py"
# Nothing is learnt in two steps; without a threshold there are detections all the same.
OPTIONS = ["--cfg-options", *QUICK, "model.test_cfg.rcnn.score_thr=0.0"]


@pytest.fixture(scope="module")
def honest_run(repo, tmp_path_factory) -> Path:
    """A run with its data beside it, tested once."""
    folder = tmp_path_factory.mktemp("honest")
    write_dataset(folder / "data", n_train=5, n_test=1, size=96)
    run(
        *(repo, folder / "data", "tools/train.py", DEMO),
        *("--work-dir", folder / "run", *OPTIONS),
    )
    run(
        *(repo, folder / "data", "tools/test.py", DEMO, folder / "run" / "iter_2.pth"),
        *OPTIONS,
    )
    return folder


@pytest.fixture
def folder(honest_run, tmp_path) -> Path:
    """A copy that a test may change; of large files it must remove the old ones."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(".pth") else shutil.copy2)(source, target)

    return Path(shutil.copytree(honest_run, tmp_path / "copy", copy_function=copy))


@pytest.fixture
def verify(run_tool, folder) -> Callable[..., str]:
    """Call the tool on the copy and its data."""

    def call(*options: object) -> str:
        data = folder / "data"
        return run_tool(TOOL, folder / "run", "--data-root", data, *options)

    return call


@pytest.fixture
def differs(verify, capsys) -> Callable[..., str]:
    """Call the tool where it must fail; what it says."""

    def call(*options: object) -> str:
        with pytest.raises(SystemExit) as error:
            verify(*options)
        assert str(error.value.code).startswith("error: ")
        return capsys.readouterr().out + str(error.value.code)

    return call


@pytest.mark.slow
def test_an_honest_run_is_verified_figure_by_figure(folder, verify):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    printed = verify()
    assert "Validation in the training, step 2" in printed
    assert "tools/test.py, iter_2.pth" in printed
    assert printed.count("checkpoint: as recorded") == 2
    files = len(list((folder / "data" / "train").glob("*/*.tif")))
    assert f"data: {files} files recorded, 0 differ" in printed
    assert "verified, nothing differs" in printed and "DIFFERENT" not in printed
    stored = json.loads(_log(folder).read_text())
    for name in (name for name in stored if "/" in name):
        assert printed.count(f"{name} ") == 2  # in the training, and in the test
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def _log(folder: Path) -> Path:
    """The figures that tools/test.py left."""
    path = _predictions(folder)
    return path.with_name(f"{path.parent.name}.json")


def _predictions(folder: Path) -> Path:
    (path,) = folder.glob("run/*/predictions.json")
    return path


def test_a_changed_figure_is_found(folder, verify, differs):
    figures = json.loads(_log(folder).read_text())
    figures["coco/segm_mAP_50"] += 1e-6
    _log(folder).write_text(json.dumps(figures))
    assert "1 differences" in differs("--quick")
    assert "nothing differs" in verify("--quick", "--tolerance", "1e-5")


def test_a_changed_prediction_is_found(folder, differs):
    data = json.loads(_predictions(folder).read_text())
    image = data["images"][0]
    path = folder / "data" / "train" / image["file_name"] / "class1.tif"
    labels = tifffile.imread(path)
    cell = coco_mask.encode(np.asfortranarray(labels == labels.max(), np.uint8))
    found = next(a for a in data["annotations"] if a["image_id"] == image["id"])
    found.update(category_id=1, score=1.0, bbox=coco_mask.toBbox(cell).tolist())
    found["segmentation"]["counts"] = cell["counts"].decode()
    _predictions(folder).write_text(json.dumps(data))
    assert "DIFFERENT" in differs("--quick")


def test_a_changed_label_is_found_by_name(folder, differs):
    path = sorted((folder / "data" / "train").glob("*/class1.tif"))[0]
    labels = tifffile.imread(path)
    labels[0, 0] = labels.max() + 1
    tifffile.imwrite(path, labels)
    assert f"data: {path} has changed" in differs("--quick")


def test_a_changed_weight_is_found(folder, differs):
    path = folder / "run" / "iter_2.pth"
    state = torch.load(path, weights_only=False)
    weight = state["state_dict"]["backbone.conv1.weight"]
    weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    path.unlink()
    torch.save(state, path)
    printed = differs("--quick")
    assert "checkpoint: IT HAS CHANGED" in printed and "1 differences" in printed


@pytest.mark.slow
def test_another_network_and_a_changed_figure_of_the_training_are_found(
    folder, differs
):
    (log,) = folder.glob("run/*/vis_data/scalars.json")
    *rows, last = (json.loads(line) for line in log.read_text().splitlines())
    last["coco/bbox_mAP"] += 0.01
    log.write_text("\n".join(map(json.dumps, [*rows, last])))
    # Nobody has recorded checksums, and the weights give no box at all.
    (folder / "run" / "checkpoints.json").unlink()
    path = folder / "run" / "iter_2.pth"
    state = torch.load(path, weights_only=False)
    state["state_dict"]["roi_head.bbox_head.fc_reg.bias"] += 1e3
    path.unlink()
    torch.save(state, path)
    printed = differs()
    training, test = printed.split("tools/test.py, ")
    assert "checksum was not recorded" in training and "IT HAS CHANGED" in test
    assert any(
        line.startswith("coco/bbox_mAP ") and line.endswith("DIFFERENT")
        for line in training.splitlines()
    )


def test_a_folder_without_figures_is_refused(run_tool, tmp_path):
    with pytest.raises(SystemExit, match="lacks a checkpoint"):
        run_tool(TOOL, tmp_path)
