"""tools/export.py: one file that predicts as the run does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from custom.errors import InputError
from custom.inference import Segmenter
from custom.inference.export import load_export
from custom.io.image import read_image
from tests.small_run import write_run

TOOL = "tools/export.py"


@pytest.fixture(scope="module")
def run(repo, tmp_path_factory):
    """A run folder with random weights."""
    return write_run(tmp_path_factory.mktemp("runs") / "small", repo)


@pytest.fixture(scope="module")
def image(tiny_root):
    return read_image(sorted((tiny_root / "test_release").glob("*.tif"))[0])


@pytest.mark.parametrize("tta", [False, True])
def test_the_file_predicts_what_the_run_predicts(run_tool, run, image, tmp_path, tta):
    out = tmp_path / "model.pt"
    assert "class1, class2, class3, class4" in run_tool(TOOL, run, "-o", out)
    expected, cells = (
        Segmenter(model, device="cpu", score_thr=None, tta=tta)(image)
        for model in (run, out)
    )
    assert len(cells) > 5
    np.testing.assert_array_equal(cells.scores, expected.scores)
    np.testing.assert_array_equal(cells.boxes, expected.boxes)
    np.testing.assert_array_equal(cells.labels, expected.labels)
    assert cells.class_names == expected.class_names
    assert cells.palette == expected.palette


def test_cells_are_those_above_the_best_threshold_of_the_validation(
    run_tool, run, tmp_path
):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = copy / "best_x_iter_3.pth"
    history = HistoryBuffer([0.3, 0.42], [1, 1])
    scalars = {"log_scalars": {"val/coco/segm_best_F1_score": history}}
    torch.save({**torch.load(path), "message_hub": scalars}, path)
    run_tool(TOOL, copy, "-o", tmp_path / "model.pt")
    for model, expected in ((run, 0.5), (copy, 0.42), (tmp_path / "model.pt", 0.42)):
        assert Segmenter(model).score_thr == expected


def test_the_file_holds_nothing_of_training_and_of_this_machine(
    run_tool, run, tmp_path
):
    out = tmp_path / "model.pt"
    said = run_tool(TOOL, run, "-o", out)
    assert "pixels of 0.25 µm, training files stored bgr" in said
    model = load_export(out)
    assert model.config["model"]["train_cfg"] is None
    assert str(run) not in str(model) and str(tmp_path) not in str(model)
    known = {"run": run.name, "checkpoint": "best_x_iter_3.pth"}
    assert model.info == {**known, "data": model.info["data"]}
    run_tool(TOOL, out, "-o", tmp_path / "again.pt")
    assert load_export(tmp_path / "again.pt").info == model.info
    assert model.config["model"]["test_cfg"]["rcnn"]["max_per_img"] == 10
    before = torch.load(run / "best_x_iter_3.pth", weights_only=True)["state_dict"]
    assert model.state_dict.keys() == before.keys()


def test_bad_input_ends_in_one_sentence(run_tool, run, repo, tmp_path):
    out = tmp_path / "model.pt"
    (config,) = run.glob("*.py")
    cases = [
        ("a config alone lacks weights", [config]),
        ("does not exist", [tmp_path / "no"]),
        ("does not exist", [config, tmp_path / "no.pth"]),
    ]
    for words, arguments in cases:
        with pytest.raises(SystemExit, match=words):
            run_tool(TOOL, *arguments, "-o", out)
        assert not out.exists()
    out.write_text("mine")
    with pytest.raises(SystemExit, match="exists already"):
        run_tool(TOOL, run, "-o", out)
    assert out.read_text() == "mine"


def test_what_a_file_may_not_carry_builds_nothing(run_tool, run, tmp_path):
    (path,) = run.glob("*.py")
    cfg = Config.fromfile(path)
    cfg.test_dataloader.dataset.pipeline.insert(1, {"type": "Albu"})
    cfg.dump(tmp_path / "albu.py")
    args = (tmp_path / "albu.py", run / "best_x_iter_3.pth", "-o", tmp_path / "m.pt")
    with pytest.raises(SystemExit, match="'Albu', which a model in a file may not use"):
        run_tool(TOOL, *args)
    out = tmp_path / "model.pt"
    run_tool(TOOL, run, "-o", out)
    data = torch.load(out, weights_only=True)
    trace = tmp_path / "trace"
    data["config"]["model"] = {"type": "os.system", "command": f"touch {trace}"}
    torch.save(data, out)
    with pytest.raises(InputError, match=r"os\.system"):
        Segmenter(out)
    assert not trace.exists()
