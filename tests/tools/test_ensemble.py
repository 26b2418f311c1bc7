"""Fusing prediction files: what comes out, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from custom.datasets import CellDataset
from custom.datasets.splits import Split
from custom.evaluation import ImagePredictions, Predictions, read_predictions
from custom.evaluation.submission import write_submission
from custom.io.checksums import file_checksum
from custom.io.image import image_size
from custom.transforms.loading import read_label_masks

TOOL = "tools/ensemble.py"
CONFIG = "configs/demo/maskrcnn_r18-slim.py"
CLASSES = CellDataset.METAINFO["classes"]


@pytest.fixture(autouse=True)
def _data(tiny_root, repo, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.chdir(repo)


def oracle(root: Path, names: list[str], share: float, seed: int = 0) -> Predictions:
    """The ground truth of images, of which a member finds a share."""
    rng = np.random.default_rng(seed)
    images = []
    for i, name in enumerate(names, 1):
        folder = root / "train" / name
        files = enumerate(folder / f"{c}.tif" for c in CLASSES)
        size = image_size(folder / "image.tif")
        masks, labels = read_label_masks([f for f in files if f[1].exists()], size)
        results = np.flatnonzero(rng.random(len(masks)) < share)
        scores, boxes = rng.uniform(0.5, 1, len(results)), masks.boxes()[results]
        rles = [masks.to_rle()[i] for i in results]
        image = (i, name, size, labels[results], scores, boxes.astype(float), rles)
        images.append(ImagePredictions(*image))
    split = {"name": "some", "rule": "random", "seed": 1}
    info = {"config": CONFIG, "checkpoint": None, "split": split, "subset": "val"}
    return Predictions(CLASSES, images, info)


@pytest.fixture(scope="module")
def names(tiny_root) -> list[str]:
    return sorted(path.name for path in (tiny_root / "train").iterdir())[:3]


@pytest.fixture
def members(tiny_root, names, tmp_path) -> list[Path]:
    """Three members that find half of the cells each, and those alone."""
    paths = [tmp_path / f"{seed}" / "predictions.json" for seed in range(3)]
    for seed, path in enumerate(paths):
        oracle(tiny_root, names, 0.5, seed).save(path)
    return paths


def edit(path: Path, change) -> None:
    """Change the JSON of a file."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def result(out: Path) -> Path:
    """The one folder that a run of the tool has left."""
    (path,) = out.glob("*/predictions.json")
    return path.parent


@pytest.mark.parametrize("options", [["--method", "nms"], ["--mask-iou"]])
def test_members_together_find_what_one_of_them_found(
    options, members, names, run_tool, tiny_root, tmp_path
):
    out = tmp_path / "out"
    printed = run_tool(TOOL, out, *members, "--eval", *options)
    metrics = json.loads((result(out) / "metrics.json").read_text())
    assert f"segm mAP_50: {metrics['coco/segm_mAP_50']:.4f}" in printed
    fused = read_predictions(result(out))
    assert fused.info["members"] == [str(path) for path in members]
    assert fused.info["split"]["name"] == "some"
    alone = [read_predictions(path) for path in members]
    whole = oracle(tiny_root, names, 1.1)
    for i, image in enumerate(fused.images):
        union = {m["counts"] for a in alone for m in a.images[i].rles}
        assert {m["counts"] for m in image.rles} == union
        assert len(image) == len(union)
    # All of them are true, so that AP50 is about the recall.
    cells = sum(map(len, whole.images))
    assert metrics["coco/segm_mAP_50"] > 0.6
    assert cells > sum(map(len, fused.images)) > 0.7 * cells


def test_least_score_and_most_detections(members, run_tool, tmp_path):
    options = ("--score-thr", "0.7", "--max-dets", "5", "--method", "nms")
    run_tool(TOOL, tmp_path / "out", *members, "--eval", *options)
    images = read_predictions(result(tmp_path / "out")).images
    assert max(map(len, images)) == 5
    assert np.concatenate([image.scores for image in images]).min() >= 0.7


def test_submissions_are_fused_to_a_submission(members, run_tool, tmp_path):
    sources, entries = [], []
    for k, path in enumerate(members):
        entries.append(read_predictions(path).entries())
        sources.append(write_submission(entries[-1], tmp_path / f"sub{k}"))
    out = tmp_path / "out"
    run_tool(TOOL, out, *sources, "--format-only", "--method", "nms")
    with zipfile.ZipFile(result(out) / "submission.zip") as archive:
        assert archive.namelist() == ["test-results.json"]
        fused = json.loads(archive.read("test-results.json"))

    def key(entry):
        rle = entry["segmentation"]["counts"]
        return entry["image_id"], entry["category_id"], rle

    assert {key(e) for e in fused} == {key(e) for member in entries for e in member}
    assert len(fused) == len({key(e) for e in fused})


def test_folds_are_predicted_once_by_their_own_config(
    names, run_tool, tiny_root, tmp_path, monkeypatch
):
    """By tools/test.py, which is imitated."""
    for fold in range(2):
        run = tmp_path / "folds" / f"fold-{fold}"
        (run / "t" / "vis_data").mkdir(parents=True)
        (run / "best_1.pth").write_bytes(bytes([fold]))
        (run / "t/vis_data/scalars.json").touch()
        (run / "t/vis_data/config.py").touch()
    calls = []

    def test_py(command):
        calls.append(command)
        checkpoint, folder = Path(command[3]), Path(command[5])
        results = oracle(tiny_root, names, 0.5, len(calls))
        results.info["checkpoint_sha256"] = file_checksum(checkpoint)
        results.save(folder / "now" / "predictions.json")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", test_py)
    out = tmp_path / "out"
    run_tool(TOOL, out, tmp_path / "folds", "--eval", "--tta")
    assert [c[2].split("/")[-4] for c in calls] == ["fold-0", "fold-1"]
    assert all("--tta" in c and "--format-only" not in c for c in calls)
    said = run_tool(TOOL, out, tmp_path / "folds", "--eval", "--tta")
    assert len(calls) == 2 and said.count("predicted before") == 2
    (tmp_path / "folds/fold-1/best_1.pth").write_bytes(b"other")
    with pytest.raises(SystemExit, match="predictions of another checkpoint"):
        run_tool(TOOL, out, tmp_path / "folds", "--eval", "--tta")


def drop_image(data):
    gone = data["images"].pop()["id"]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != gone]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_image, "covers other images"),
        (lambda d: d["categories"][0].update(name="nucleus"), "its classes is"),
        (lambda d: d["info"]["split"].update(name="other"), "its split is other"),
        (lambda d: d["info"].update(subset="test"), "its subset is test"),
        (lambda d: d["annotations"].clear(), "it lacks detections"),
        (lambda d: d.clear(), "lacks 'categories'"),
    ],
)
def test_member_that_does_not_fit_is_named(change, reason, members, run_tool, tmp_path):
    edit(members[1], change)
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match=f"error: .*1/predictions.json: .*{reason}"):
        run_tool(TOOL, out, *members, "--eval")
    assert not out.exists()


def test_what_cannot_be_fused_or_evaluated_is_refused(
    members, names, run_tool, tmp_path
):
    def refused(reason, *arguments):
        with pytest.raises(SystemExit, match=f"error: .*{re.escape(reason)}"):
            run_tool(TOOL, tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.pth").touch()
    (tmp_path / "folds" / "fold-0").mkdir(parents=True)
    refused("does not exist", members[0], tmp_path / "no.json", "--eval")
    refused("member twice", members[0], members[1], members[0], "--eval")
    refused("lacks a checkpoint", tmp_path / "run", "--eval")
    refused("lacks a checkpoint", tmp_path / "folds", "--eval")
    refused("validation images", *members, "--format-only")
    Split("s", "random", 1, (names[0],), ()).save(tmp_path / "run" / "split.json")
    checkpoint = str(tmp_path / "run" / "best.pth")
    edit(members[2], lambda d: d["info"].update(checkpoint=checkpoint))
    refused(f"1 of its images, such as {names[0]}", *members, "--eval")
    for path in members:
        edit(path, lambda d: d["images"][0].update(file_name="elsewhere"))
    with pytest.raises(SystemExit, match="not there: elsewhere"):
        run_tool(TOOL, tmp_path / "other", *members[:2], "--eval")
