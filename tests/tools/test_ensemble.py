"""Fusing prediction files: what comes out, and what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from custom.datasets import CellDataset
from custom.datasets.splits import Split
from custom.evaluation import ImagePredictions, Predictions, read_predictions
from custom.evaluation.submission import write_submission
from custom.io.image import image_size, read_labels
from custom.structures import LabelMasks

TOOL = "tools/ensemble.py"
CONFIG = "configs/demo/maskrcnn_r18-slim.py"
CLASSES = CellDataset.METAINFO["classes"]


@pytest.fixture(autouse=True)
def _data(tiny_root, repo, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.chdir(repo)


def oracle(root: Path, names: list[str], keep: float, seed: int) -> Predictions:
    """The ground truth of images, of which a member finds a share."""
    rng = np.random.default_rng(seed)
    images = []
    for i, name in enumerate(names, 1):
        folder = root / "train" / name
        size = image_size(folder / "image.tif")
        paths = [folder / f"{c}.tif" for c in CLASSES]
        planes = [
            read_labels(path) if path.exists() else np.zeros(size, np.int32)
            for path in paths
        ]
        masks, ids = LabelMasks.from_label_images(planes)
        labels = np.repeat(np.arange(len(CLASSES)), [len(own) for own in ids])
        found = np.flatnonzero(rng.random(len(masks)) < keep)
        images.append(
            ImagePredictions(
                i,
                name,
                size,
                labels[found],
                rng.uniform(0.5, 1, len(found)),
                masks.boxes()[found].astype(np.float64),
                [masks.to_rle()[i] for i in found],
            )
        )
    split = {"name": "some", "rule": "random", "seed": 1}
    info = {"config": CONFIG, "checkpoint": None, "split": split, "subset": "val"}
    return Predictions(CLASSES, images, info)


@pytest.fixture(scope="module")
def names(tiny_root) -> list[str]:
    return sorted(path.name for path in (tiny_root / "train").iterdir())[:3]


@pytest.fixture
def members(tiny_root, names, tmp_path) -> list[Path]:
    """Three members that find half of the cells each, and those alone."""
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"{seed}" / "predictions.json")
        oracle(tiny_root, names, 0.5, seed).save(paths[-1])
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


@pytest.mark.parametrize("method", ["wbf", "nms"])
@pytest.mark.parametrize("overlap", [[], ["--mask-iou"]])
def test_members_together_find_what_one_of_them_found(
    method, overlap, members, names, run_tool, tiny_root, tmp_path
):
    out = tmp_path / "out"
    printed = run_tool(TOOL, out, *members, "--eval", "--method", method, *overlap)
    folder = result(out)
    figures = json.loads((folder / "metrics.json").read_text())
    assert f"segm mAP_50: {figures['coco/segm_mAP_50']:.4f}" in printed
    fused = read_predictions(folder)
    assert fused.info["members"] == [str(path) for path in members]
    assert fused.info["split"]["name"] == "some"
    alone = [read_predictions(path) for path in members]
    whole = oracle(tiny_root, names, 1.1, 0)
    for i, image in enumerate(fused.images):
        union = {m["counts"] for a in alone for m in a.images[i].rles}
        assert {m["counts"] for m in image.rles} == union
        assert len(image) == len(union)
        assert union <= {m["counts"] for m in whole.images[i].rles}
    # All of them are true, so that AP50 is about the recall.
    cells = sum(map(len, whole.images))
    assert figures["coco/segm_mAP_50"] > 0.6
    assert cells > sum(map(len, fused.images)) > 0.7 * cells


def test_least_score_and_most_detections_are_kept(members, run_tool, tmp_path):
    out = tmp_path / "out"
    run_tool(TOOL, out, *members, "--eval", "--score-thr", "0.7", "--max-dets", "5")
    assert sorted(map(len, read_predictions(result(out)).images))[-2:] == [5, 5]
    out = tmp_path / "nms"
    run_tool(TOOL, out, *members, "--eval", "--score-thr", "0.7", "--method", "nms")
    images = read_predictions(result(out)).images
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
    key = lambda e: (e["image_id"], e["category_id"], e["segmentation"]["counts"])  # noqa: E731
    assert {key(e) for e in fused} == {key(e) for member in entries for e in member}
    assert len(fused) == len({key(e) for e in fused})


def drop_image(data):
    gone = data["images"].pop()["id"]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != gone]


def other_size(data):
    data["images"][0].update(height=10, width=10)
    gone = data["images"][0]["id"]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != gone]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_image, "covers other images"),
        (other_size, "covers other images"),
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


def test_what_is_no_member_is_refused(members, run_tool, tmp_path):
    def refused(reason, *arguments):
        with pytest.raises(SystemExit, match=f"error: .*{reason}"):
            run_tool(TOOL, tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.pth").touch()
    (tmp_path / "folds" / "fold-0").mkdir(parents=True)
    refused("does not exist", members[0], tmp_path / "no.json", "--eval")
    refused("no checkpoint follows", CONFIG, members[0], "--eval")
    refused("member twice", members[0], members[1], members[0], "--eval")
    refused("lacks a checkpoint", tmp_path / "run", "--eval")
    refused("lacks a checkpoint", tmp_path / "folds", "--eval")
    refused("x.pth: it does not exist", CONFIG, tmp_path / "x.pth", "--eval")
    refused("validation images", *members, "--format-only")


def test_evaluation_on_images_that_a_member_was_trained_on_is_refused(
    members, names, run_tool, tmp_path
):
    Split("s", "random", 1, (names[0],), ()).save(tmp_path / "run" / "split.json")
    checkpoint = str(tmp_path / "run" / "best.pth")
    edit(members[2], lambda d: d["info"].update(checkpoint=checkpoint))
    with pytest.raises(SystemExit, match=f"1 of its images, such as {names[0]}"):
        run_tool(TOOL, tmp_path / "out", *members, "--eval")


def test_images_that_the_data_set_lacks_are_named(members, run_tool, tmp_path):
    for path in members:
        edit(path, lambda d: d["images"][0].update(file_name="elsewhere"))
    with pytest.raises(SystemExit, match="not there: elsewhere"):
        run_tool(TOOL, tmp_path / "out", *members, "--eval")
