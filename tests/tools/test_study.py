"""A study from its config to its table: what is missing is run, and nothing else."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import pytest

from tests.conftest import forget_visualizers

TOOL = "tools/study.py"
STUDY = """
_base_ = '{repo}/configs/demo/maskrcnn_r18-slim.py'
train_cfg = dict(max_iters=3, val_interval=100)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
custom_hooks = [
    dict(type='BF16Hook', modules=['backbone', 'neck']),
    dict(type='EMAHook', momentum=0.1, update_buffers=True)]
model = dict(test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0)))
study = dict(folds=2, seeds=[1], rows=[
    dict(name='NMS .3', of='baseline',
         options={{'model.test_cfg.rcnn.nms.iou_threshold': 0.3}}),
    dict(name='TTA', of='baseline', folds=[0], options={{}}, tta=True),
    dict(name='again', of='baseline', folds=[0], options={{}}),
])
"""


@pytest.fixture
def started(repo, monkeypatch) -> list[list[str]]:
    """The runs of each process that the tool starts; they run in this process."""
    jobs, real = [], subprocess.run

    def start(command, *args, **kwargs) -> subprocess.CompletedProcess:
        if command[0] != sys.executable:
            return real(command, *args, **kwargs)
        words = iter(command[3:])
        jobs.append([" ".join([next(words), next(words), next(words)]) for _ in words])
        forget_visualizers()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            runpy.run_path(command[1], run_name="__main__")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", start)
    monkeypatch.setattr(
        "yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True)
    )
    return jobs


@pytest.mark.slow
def test_only_missing_runs_are_made_and_the_lines_alone_give_the_table(
    started, repo, run_tool, tiny_root, tmp_path, monkeypatch
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    path = tmp_path / "some.py"
    path.write_text(STUDY.format(repo=repo))
    monkeypatch.chdir(tmp_path)
    printed = run_tool(repo / TOOL, path)
    assert started == [
        ["baseline 0 1"],
        ["baseline 1 1"],
        ["NMS .3 0 1", "TTA 0 1", "again 0 1"],
        ["NMS .3 1 1"],
    ]
    table = (tmp_path / "some.md").read_text()
    assert printed.endswith(table) and "missing" not in table
    assert "| NMS .3 | 2 (2) |" in table
    assert "Difference from the baseline" in (tmp_path / "some.html").read_text()

    # A run is scored with the weights that it saves, the averaged ones.
    lines = [json.loads(x) for x in (tmp_path / "some.jsonl").read_text().splitlines()]
    trained, again = (
        next(x for x in lines if x["row"] == row and x["fold"] == 0)
        for row in ("baseline", "again")
    )
    assert trained["groups"] == again["groups"]

    # As on a fresh clone: no checkpoints, the committed lines.
    started.clear()
    assert run_tool(repo / TOOL, path).endswith(table)
    assert started == []

    lines = (tmp_path / "some.jsonl").read_text().splitlines()
    rest = [line for line in lines if '"row": "baseline", "fold": 1' not in line]
    assert len(rest) == len(lines) - 1
    (tmp_path / "some.jsonl").write_text("\n".join(rest) + "\n")
    run_tool(repo / TOOL, path)
    assert started == [["baseline 1 1"]]
    again = (tmp_path / "some.jsonl").read_text().splitlines()
    assert sorted(x.split('"seconds"')[0] for x in again) == sorted(
        x.split('"seconds"')[0] for x in lines
    )

    # A run that ended after the tool was killed is collected.
    started.clear()
    (tmp_path / "some.jsonl").write_text("\n".join(lines[1:]) + "\n")
    line = tmp_path / "work_dirs/some/baseline/seed-1/fold-0/line.json"
    line.write_text(lines[0])
    assert run_tool(repo / TOOL, path).endswith(table)
    assert started == [] and not line.exists()

    # A folder of folds is what the ensemble takes.
    assert (tmp_path / "work_dirs/some/baseline/seed-1/fold-1/split.json").exists()


def test_a_study_that_cannot_be_run_is_refused(run_tool, tmp_path):
    with pytest.raises(SystemExit, match="does not exist"):
        run_tool(TOOL, tmp_path / "none.py")
    path = tmp_path / "plain.py"
    path.write_text("a = 1\n")
    with pytest.raises(SystemExit, match="lacks `study`"):
        run_tool(TOOL, path)


def test_slurm_needs_submitit(run_tool, repo, tmp_path, monkeypatch):
    path = tmp_path / "some.py"
    path.write_text(STUDY.format(repo=repo))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SystemExit, match="pip install submitit"):
        run_tool(TOOL, path, "--slurm", "timeout_min=5")
