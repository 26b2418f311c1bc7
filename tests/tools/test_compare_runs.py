from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from copy import deepcopy

import pytest
from mmengine.config import Config

from custom.errors import InputError
from tools.analysis.compare_runs import as_csv, as_markdown, compare, training_hours

CONFIG = {
    "model": {"backbone": {"type": "ResNet", "depth": 50}, "roi_head": {"num": 512}},
    "train_dataloader": {
        "batch_size": 2,
        "num_workers": 4,
        "dataset": {
            "data_root": "a",
            "pipeline": [
                {"type": "LoadCellImage"},
                {"type": "Resize", "scale": (1333, 800)},
            ],
        },
    },
    "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-4}},
    "train_cfg": {"max_epochs": 3},
    "work_dir": "x",
}


def write(run, config, aps, val=("a", "b"), epochs=True):
    folder = run / "20260101_000000" / "vis_data"
    folder.mkdir(parents=True)
    Config(config).dump(folder / "config.py")
    # A test run leaves its own config here, with other weights.
    Config({**config, "load_from": "best.pth"}).dump(run / "config.py")
    rows = []
    for epoch, ap in enumerate(aps, 1):
        train = {"loss": 1.0, "time": 36.0, "iter": 10 * epoch, "step": 10 * epoch}
        rows.append({**train, "epoch": epoch} if epochs else train)
        rows.append(
            {
                "coco/segm_mAP": ap / 2,
                "coco/segm_mAP_50": ap,
                "coco/segm_mAP_50@100": ap,
                "coco/segm_mAP_50_class1": ap + 0.1,
                "time": 5.0,
                "step": 10 * epoch,
            }
        )
    (folder / "scalars.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    split = {"name": "s", "rule": "random", "seed": 1, "train": ["c"], "val": val}
    (run / "split.json").write_text(json.dumps(split))
    return run


@pytest.fixture
def runs(tmp_path):
    other = deepcopy(CONFIG)
    other["model"]["backbone"]["depth"] = 101
    other["train_dataloader"]["num_workers"] = 8
    other["train_dataloader"]["dataset"]["data_root"] = "b"
    other["train_dataloader"]["dataset"]["pipeline"].insert(1, {"type": "RandomFlip"})
    other["optim_wrapper"]["optimizer"] = {"type": "SGD", "lr": 1e-2, "momentum": 0.9}
    return [
        write(tmp_path / "a", CONFIG, [0.2, 0.5, 0.4]),
        write(tmp_path / "b", other, [0.1, 0.3], epochs=False),
    ]


def test_only_differences_and_the_best_validation(runs):
    table, warning = compare(runs)
    assert warning is None
    first, second = table
    assert first == {
        "run": "a",
        "backbone.depth": "50",
        "pipeline": "LoadCellImage, Resize",
        "optimizer.type": "AdamW",
        "optimizer.lr": "0.0001",
        "optimizer.momentum": "-",
        "split": "s",
        "hours": "0.30",
        "best": "epoch 2",
        "AP": "0.250",
        "AP50": "0.500",
        "AP50 class1": "0.600",
    }
    assert second["pipeline"] == "LoadCellImage, RandomFlip, Resize"
    assert second["best"] == "iteration 20" and second["hours"] == "0.20"


def test_one_setting_of_one_step(tmp_path):
    other = deepcopy(CONFIG)
    other["train_dataloader"]["dataset"]["pipeline"][1]["scale"] = (1000, 400)
    runs = [
        write(tmp_path / name, c, [0.1]) for name, c in (("a", CONFIG), ("b", other))
    ]
    table, _ = compare(runs)
    assert table[1]["pipeline.1.scale"] == "[1000, 400]"
    assert len(table[0]) == 8


def test_other_validation_images_are_said(runs, tmp_path):
    runs.append(write(tmp_path / "c", CONFIG, [0.1], val=("d",)))
    assert "different images" in compare(runs)[1]


def test_hours_of_a_resumed_run():
    def row(step, seconds):
        return {"loss": 1.0, "time": seconds, "step": step}

    rows = [row(100, 36), {"time": 5, "step": 100}, row(50, 9), row(200, 36)]
    assert training_hours(rows) == pytest.approx((100 * 36 + 150 * 36) / 3600)


def test_both_forms_hold_the_same(runs):
    table, _ = compare(runs)
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    lines = as_markdown(table).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(rows[0])
    for line, row in zip(lines[2:], rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells == list(row.values())


def test_command(runs, tmp_path, repo):
    tool = [sys.executable, repo / "tools/analysis/compare_runs.py"]
    done = subprocess.run(
        [*tool, *runs, "-o", tmp_path / "out.csv"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "out.csv: 2 runs" in done.stdout
    assert (tmp_path / "out.csv").read_text().startswith("run,backbone.depth,")
    (tmp_path / "empty").mkdir()
    done = subprocess.run([*tool, tmp_path / "empty"], capture_output=True, text=True)
    assert done.returncode == 1 and "no training run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="no training run"):
        compare([tmp_path])
