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

TOOL = "tools/analysis/verify_run.py"
# Nothing is learnt in two steps; without a threshold there are detections all the same.
OPTIONS = ["--cfg-options", *QUICK, "model.test_cfg.rcnn.score_thr=0.0"]


@pytest.fixture(scope="module")
def honest_run(repo, tmp_path_factory) -> Path:
    """A run with its data beside it, tested once."""
    folder = tmp_path_factory.mktemp("honest")
    write_dataset(folder / "data", n_train=5, n_test=1, size=96)
    train = ("tools/train.py", DEMO, "--work-dir", folder / "run")
    test = ("tools/test.py", DEMO, folder / "run" / "iter_2.pth")
    for command in (train, test):
        run(repo, folder / "data", *command, *OPTIONS)
    return folder


@pytest.fixture
def folder(honest_run, tmp_path) -> Path:
    """A copy that a test may change; of large files it must remove the old ones."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(".pth") else shutil.copy2)(source, target)

    return Path(shutil.copytree(honest_run, tmp_path / "copy", copy_function=copy))


@pytest.fixture
def verify(run_tool, folder, capsys) -> Callable[..., str]:
    """Call the tool on the copy and its data; what it says, also of differences."""

    def call(*options: object) -> str:
        data = folder / "data"
        try:
            return run_tool(TOOL, folder / "run", "--data-root", data, *options)
        except SystemExit as error:
            assert str(error.code).startswith("error: ")
            return capsys.readouterr().out + str(error.code)

    return call


def files_of_test(folder: Path) -> tuple[Path, Path]:
    """The predictions and the metrics that tools/test.py left."""
    (path,) = folder.glob("run/*/predictions.json")
    return path, path.with_name(f"{path.parent.name}.json")


def test_honest_run_is_verified_and_each_change_is_found(folder, verify):
    predictions, log = files_of_test(folder)
    files = len(list((folder / "data" / "train").glob("*/*.tif")))
    printed = verify("--quick")
    assert f"data: {files} files recorded, 0 differ" in printed
    assert "checkpoint: as recorded" in printed and "verified, nothing" in printed
    stored = json.loads(log.read_text())
    assert all(printed.count(f"{name} ") == 1 for name in stored if "/" in name)

    log.write_text(
        json.dumps({**stored, "coco/segm_mAP": 1e-6 + stored["coco/segm_mAP"]})
    )
    assert "1 differences" in verify("--quick")
    assert "nothing differs" in verify("--quick", "--tolerance", "1e-5")
    log.write_text(json.dumps(stored))

    # A prediction becomes a cell of the ground truth.
    data = json.loads(predictions.read_text())
    image = data["images"][0]
    path = folder / "data" / "train" / image["file_name"] / "class1.tif"
    labels = tifffile.imread(path)
    cell = coco_mask.encode(np.asfortranarray(labels == labels.max(), np.uint8))
    annotation = next(a for a in data["annotations"] if a["image_id"] == image["id"])
    annotation.update(category_id=1, score=1.0, bbox=coco_mask.toBbox(cell).tolist())
    annotation["segmentation"]["counts"] = cell["counts"].decode()
    predictions.write_text(json.dumps(data))
    assert "DIFFERENT" in verify("--quick")

    labels[0, 0] = labels.max() + 1
    tifffile.imwrite(path, labels)
    assert f"data: {path} has changed" in verify("--quick")


@pytest.mark.slow
def test_the_network_is_run_again_and_a_changed_one_is_found(folder, verify):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    printed = verify()
    assert "verified, nothing differs" in printed and "DIFFERENT" not in printed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    _, log = files_of_test(folder)
    stored = json.loads(log.read_text())
    log.write_text(json.dumps({**stored, "coco/bbox_mAP": 0.5}))
    path = folder / "run" / "iter_2.pth"
    state = torch.load(path, weights_only=False)
    state["state_dict"]["roi_head.bbox_head.fc_reg.bias"] += 1e3
    path.unlink()
    torch.save(state, path)
    printed = verify()
    assert "checkpoint: IT HAS CHANGED" in printed and "2 differences" in printed


def test_a_folder_without_metrics_is_refused(run_tool, tmp_path):
    with pytest.raises(SystemExit, match="it stores no metrics"):
        run_tool(TOOL, tmp_path)
