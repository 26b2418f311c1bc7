"""The two commands that everything hangs on, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

DEMO = "configs/demo/maskrcnn_r18-slim.py"
QUICK = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "model.test_cfg.rcnn.max_per_img=20",
    "default_hooks.checkpoint.interval=2",
]


def run(repo: Path, root: Path, *command: str, ok: bool = True, **env: str):
    """Run a tool in the checkout; returns the finished process."""
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=repo,
        env={**os.environ, "CELL_DATA_ROOT": str(root), **env},
        capture_output=True,
        text=True,
    )
    if ok:
        assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return process


@pytest.fixture(scope="module")
def demo_run(repo, tiny_root, tmp_path_factory) -> Path:
    """A run of two iterations of the demo config."""
    work_dir = tmp_path_factory.mktemp("runs") / "demo"
    run(
        repo,
        tiny_root,
        "tools/train.py",
        DEMO,
        "--work-dir",
        work_dir,
        "--cfg-options",
        *QUICK,
    )
    return work_dir


def test_run_folder_holds_checkpoint_config_split_and_record(demo_run, tiny_root):
    assert (demo_run / "iter_2.pth").exists()
    assert (demo_run / "maskrcnn_r18-slim.py").exists()
    split = json.loads((demo_run / "split.json").read_text())
    names = {path.name for path in (tiny_root / "train").iterdir()}
    assert set(split["train"]) | set(split["val"]) == names
    record = json.loads((demo_run / "run.json").read_text())
    assert record["split"] == split["name"]
    assert record["packages"]["torch"] == torch.__version__


def test_scalars_hold_losses_and_ap_on_one_axis(demo_run):
    (file,) = demo_run.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.open()]
    (evaluation,) = [row for row in rows if "coco/segm_mAP_50" in row]
    assert evaluation["step"] == 2
    assert {
        "coco/segm_mAP_50@100",
        "coco/segm_mAP_s",
        "coco/bbox_mAP_50_class1",
    } <= set(evaluation)


def test_second_run_in_a_work_dir_is_refused_and_the_first_resumes(
    repo, tiny_root, demo_run
):
    command = ["tools/train.py", DEMO, "--work-dir", demo_run]
    refused = run(repo, tiny_root, *command, ok=False)
    assert refused.returncode == 1
    assert "of another run" in refused.stderr and "--resume" in refused.stderr
    assert "Traceback" not in refused.stderr
    more = [option.replace("max_iters=2", "max_iters=4") for option in QUICK]
    # Its schedule was made for two iterations.
    longer = [*command, "--resume", "--cfg-options", *more]
    refused = run(repo, tiny_root, *longer, ok=False)
    assert "length that the run began with" in refused.stderr
    resumed = run(repo, tiny_root, *command, "--resume", "--cfg-options", *QUICK)
    assert "resumed epoch: 0, iter: 2" in resumed.stdout


def test_evaluation_prints_both_caps_and_every_class(repo, tiny_root, demo_run):
    done = run(repo, tiny_root, "tools/test.py", DEMO, demo_run / "iter_2.pth")
    for words in ("maxDets=1000", "maxDets=100 ", "class4", "segm AP", "bbox AP"):
        assert words in done.stdout


def test_evaluation_uses_the_split_of_the_run_not_of_the_environment(
    repo, tiny_root, demo_run
):
    names = json.loads((demo_run / "split.json").read_text())["val"]
    done = run(
        repo,
        tiny_root,
        "tools/test.py",
        DEMO,
        demo_run / "iter_2.pth",
        "--show-dir",
        "overlays",
        CELL_SPLIT="kfold_3-1",
    )
    assert done.returncode == 0
    drawn = {path.stem for path in demo_run.glob("*/overlays/*.png")}
    assert drawn == set(names)


def test_format_only_writes_a_submission_that_pycocotools_loads(
    repo, tiny_root, demo_run
):
    run(
        repo,
        tiny_root,
        "tools/test.py",
        DEMO,
        demo_run / "iter_2.pth",
        "--format-only",
        "--cfg-options",
        "model.test_cfg.rcnn.score_thr=0.0",
    )
    (path,) = demo_run.glob("*/submission.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["test-results.json"]
        entries = json.loads(archive.read("test-results.json"))
    assert entries == json.loads(path.with_name("test-results.json").read_text())
    listed = json.loads((tiny_root / "test_image_name_to_ids.json").read_text())
    truth = COCO()
    truth.dataset = {
        "images": listed,
        "annotations": [],
        "categories": [{"id": i, "name": str(i)} for i in range(1, 5)],
    }
    truth.createIndex()
    assert len(truth.loadRes(entries).anns) == len(entries) > 0
    sizes = {row["id"]: (row["height"], row["width"]) for row in listed}
    for entry in entries:
        assert coco_mask.decode(entry["segmentation"]).shape == sizes[entry["image_id"]]
        assert isinstance(entry["segmentation"]["counts"], str)


def test_missing_checkpoint_and_bad_data_end_in_one_sentence(repo, tmp_path):
    done = run(repo, tmp_path, "tools/test.py", DEMO, tmp_path / "no.pth", ok=False)
    # The last line: upstream MMEngine warns of pkg_resources before.
    (*_, message) = done.stderr.strip().splitlines()
    assert message.startswith("error:") and "no.pth" in message
    done = run(
        repo,
        tmp_path,
        "tools/train.py",
        DEMO,
        "--work-dir",
        tmp_path / "run",
        ok=False,
    )
    assert done.stderr.strip().splitlines()[-1].startswith("error:")
    assert "CELL_DATA_ROOT" in done.stderr
    assert not list((tmp_path / "run").glob("*.pth"))
