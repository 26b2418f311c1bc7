"""Five folds, here two, from one command: training, resuming, fusing, submitting."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from custom.datasets.splits import Split
from tests.conftest import forget_visualizers
from tests.tools.test_train_and_test import DEMO, QUICK

TOOL = "tools/train_folds.py"
QUICKER = [
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
    "submission_dataloader.num_workers=0",
    "model.test_cfg.rpn.max_per_img=50",
    "model.test_cfg.rcnn.score_thr=0.0",
]


@pytest.fixture(autouse=True)
def _data(tiny_root, repo, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    # The tool sets them; what they were before comes back after each test.
    monkeypatch.setenv("CELL_SPLIT", "random_80-20")
    monkeypatch.setenv("NUCLEI_SPLIT", "random_80-20")
    monkeypatch.chdir(repo)


@pytest.fixture
def in_process(repo, monkeypatch) -> None:
    """Tools that tools start run in this process: importing MMDetection takes long."""

    real = subprocess.run

    def start(command: list[str], *args, **kwargs) -> subprocess.CompletedProcess:
        if command[0] != sys.executable:
            return real(command, *args, **kwargs)
        forget_visualizers()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            try:
                runpy.run_path(command[1], run_name="__main__")
            except SystemExit as error:
                return subprocess.CompletedProcess(command, int(bool(error.code)))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", start)
    # Laying out the text of the config is most of the time of so short a run.
    monkeypatch.setattr(
        "yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True)
    )


@pytest.mark.slow
def test_one_command_trains_what_is_missing_fuses_and_submits(
    in_process, run_tool, tiny_root, tmp_path
):
    work_dir = tmp_path / "folds"
    outer = tmp_path / "outer.json"
    names = sorted(path.name for path in (tiny_root / "train").iterdir())
    Split("outer", "random", 0, tuple(names[1:]), (names[0],)).save(outer)
    # Two iterations each; --only as a job of its own would be started.
    command = [TOOL, DEMO, "--folds", "2", "--within", outer, "--work-dir", work_dir]
    options = ["--cfg-options", *QUICK, *QUICKER]
    run_tool(*command, "--only", "1", *options)
    assert (work_dir / "fold-1/iter_2.pth").exists()
    assert not (work_dir / "fold-0").exists()
    # A fold that was stopped before its first checkpoint.
    (work_dir / "fold-0").mkdir()
    (work_dir / "fold-0/run.json").write_text("{}")

    printed = run_tool(*command, *options)
    assert f"{work_dir}/fold-1: finished (iter_2.pth)" in printed
    folds = [Split.load(work_dir / f"fold-{i}/split.json") for i in range(2)]
    assert folds == [Split.load(work_dir / f"splits/fold-{i}.json") for i in range(2)]
    assert sorted(folds[0].val + folds[1].val) == names[1:]

    record = json.loads((work_dir / "folds.json").read_text())
    assert [fold["fold"] for fold in record["runs"]] == [0, 1]
    for i, fold in enumerate(record["runs"]):
        data = json.loads(Path(fold["predictions"]).read_text())
        assert [row["file_name"] for row in data["images"]] == list(folds[i].val)
        assert "coco/segm_mAP_50" in fold["figures"]
        assert "coco/segm_mAP_50" in fold["figures_within"]
    fused = json.loads(Path(record["ensemble"]["predictions"]).read_text())
    assert [row["file_name"] for row in fused["images"]] == [names[0]]
    assert len(fused["info"]["members"]) == 2
    assert "coco/segm_mAP_50" in record["ensemble"]["figures"]
    (path,) = work_dir.glob("ensemble/*/submission.zip")
    assert str(path.parent) == record["submission"]
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read("test-results.json"))
    listed = json.loads((tiny_root / "test_image_name_to_ids.json").read_text())
    assert {entry["image_id"] for entry in entries} == {row["id"] for row in listed}


def test_folds_and_outer_split_are_written_before_anything_is_trained(
    run_tool, tmp_path, monkeypatch
):
    commands = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: commands.append(command)
        or subprocess.CompletedProcess(command, 1),
    )
    arguments = [DEMO, "--folds", "3", "--work-dir", tmp_path, "--amp"]
    with pytest.raises(SystemExit, match=r"train fold 0 failed.*same command again"):
        run_tool(TOOL, *arguments, "--within", "random_70-30_seed1")
    splits = sorted(path.name for path in (tmp_path / "splits").iterdir())
    assert splits == ["fold-0.json", "fold-1.json", "fold-2.json", "outer.json"]
    outer = Split.load(tmp_path / "splits/outer.json")
    assert outer.name == "random_70-30_seed1"
    name = Split.load(tmp_path / "splits/fold-2.json").name
    assert name == "kfold_3-2_seed42_in_random_70-30_seed1"
    (command,) = commands
    assert command[1].endswith("tools/train.py") and "--amp" in command
    with pytest.raises(SystemExit, match="it is another split"):
        run_tool(TOOL, *arguments, "--within", "random_70-30_seed2")


def test_config_whose_split_is_fixed_is_refused(repo, run_tool, tmp_path):
    config = tmp_path / "fixed.py"
    config.write_text(
        f"_base_ = {str(repo / DEMO)!r}\n"
        "train_dataloader = dict(dataset=dict(split='random_80-20'))\n"
    )
    with pytest.raises(SystemExit, match="its split is fixed, random_80-20"):
        run_tool(TOOL, config, "--folds", "2", "--work-dir", tmp_path / "run")


def test_fold_that_was_trained_on_another_split_is_refused(run_tool, tmp_path):
    Split("s", "random", 1, ("a",), ("b",)).save(tmp_path / "fold-0/split.json")
    with pytest.raises(SystemExit, match="it was not trained on"):
        run_tool(TOOL, DEMO, "--folds", "2", "--work-dir", tmp_path)
