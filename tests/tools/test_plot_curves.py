"""Figures of training and validation."""

from __future__ import annotations

import json

import pytest

from custom.errors import InputError
from tools.analysis.plot_curves import draw, names_of, read_scalars

TOOL = "tools/analysis/plot_curves.py"


def rows(level: float) -> list[dict]:
    found = [{"loss": level / step, "step": step} for step in range(1, 40)]
    found.append({"val/loss": level, "coco/segm_mAP_50": 0.4, "step": 39})
    return found


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / "r50", tmp_path / "r101", tmp_path / "deep" / "r50"]
    for level, folder in enumerate(folders, 1):
        logs = folder / "20260101_000000" / "vis_data"
        logs.mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows(level))
        (logs / "scalars.json").write_text(text)
    return folders


def test_a_panel_for_each_run_and_one_for_validation():
    figure = draw({"a": rows(1), "b": rows(2), "c": rows(3), "d": rows(4)})
    *losses, validation = figure.axes
    assert [axis.get_title() for axis in losses] == ["a", "b", "c", "d"]
    for level, axis in enumerate(losses, 1):
        training, own = axis.lines
        assert training.get_label() == "training" and own.get_label() == "validation"
        assert list(training.get_ydata()) == [level / step for step in range(1, 40)]
        assert list(own.get_ydata()) == [level]
        assert axis.get_ylim() == losses[0].get_ylim()
    labels = [line.get_label() for line in validation.lines]
    assert labels == [f"{name}: segm AP50" for name in "abcd"]


def test_files_of_the_named_kind(run_tool, runs, tmp_path):
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        out = tmp_path / f"figure.{ending}"
        assert "curves of 3 runs" in run_tool(TOOL, *runs, "-o", out)
        assert out.read_bytes().startswith(start)
    with pytest.raises(SystemExit, match="no known ending"):
        run_tool(TOOL, *runs, "-o", tmp_path / "figure.doc")
    with pytest.raises(SystemExit, match="holds no scalars"):
        run_tool(TOOL, tmp_path, "-o", tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_names_tell_runs_apart(runs):
    first, second, third = runs
    assert names_of([first, second]) == ["r50", "r101"]
    assert names_of([first, third]) == [f"{first.parent.name}/r50", "deep/r50"]
    with pytest.raises(InputError, match="named twice"):
        names_of([first, first])


def test_half_a_line_of_a_killed_run_is_left_out(runs):
    (log,) = runs[0].glob("*/vis_data/scalars.json")
    log.write_text(log.read_text() + '{"loss": 0.1, "st')
    assert read_scalars(runs[0]) == rows(1)
