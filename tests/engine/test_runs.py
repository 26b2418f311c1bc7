"""Run folders: none is overwritten, and each keeps its split."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from custom.engine.configs import set_split
from custom.engine.runs import (
    guard_work_dir,
    last_checkpoint,
    read_config,
    resume,
)
from custom.errors import InputError
from custom.io.checkpoint import write_checkpoint


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", ["epoch_3.pth", "iter_300.pth", "best_x_iter_2.pth"])
def test_folder_of_another_run_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        guard_work_dir(str(tmp_path))
    assert error.value.source == str(tmp_path)
    assert f"the checkpoints of another run ({name})" in error.value.reason
    assert "--resume" in error.value.remedy and "--work-dir" in error.value.remedy


def test_a_folder_without_checkpoints_is_taken(tmp_path):
    """Also that of a start that crashed before its first."""
    (tmp_path / "run.json").touch()
    guard_work_dir(tmp_path / "not" / "there")
    guard_work_dir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".123.iter_2.pth").touch()
    (tmp_path / "20260101_000000").mkdir()
    (tmp_path / "20260101_000000" / "run.json").touch()
    guard_work_dir(tmp_path)


VARIABLES = ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_only_the_first_process_looks(tmp_path, monkeypatch, variable):
    (tmp_path / "iter_2.pth").touch()
    monkeypatch.setenv(variable, "1")
    guard_work_dir(tmp_path)
    monkeypatch.setenv(variable, "0")
    with pytest.raises(InputError):
        guard_work_dir(tmp_path)


def test_set_split_reaches_data_sets_inside_wrappers():
    cells = {"type": "CellDataset", "split": "random_80-20"}
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": cells}
    cfg = Config(
        {
            "train_dataloader": {"dataset": {"dataset": repeated}},
            "val_dataloader": {"dataset": {"datasets": [repeated, cells]}},
            "test_dataloader": {"dataset": {"type": "CellTestDataset"}},
        }
    )
    set_split(cfg, "run/split.json")
    assert cfg.train_dataloader.dataset.dataset.dataset.split == "run/split.json"
    first, second = cfg.val_dataloader.dataset.datasets
    assert first.dataset.split == second.split == "run/split.json"
    assert cfg.test_dataloader.dataset == {"type": "CellTestDataset"}


def checkpoints(folder: Path, *names: str) -> None:
    for name in names:
        write_checkpoint(folder / name, {"name": name})


def test_the_last_checkpoint_is_the_named_one_and_else_the_newest(tmp_path):
    assert last_checkpoint(tmp_path) is None
    epochs, inside = tmp_path / "epochs", "epoch_10-iter_700.pth"
    checkpoints(epochs, "epoch_9.pth", "epoch_10.pth", inside)
    assert last_checkpoint(epochs) == (epochs / inside, 10)
    checkpoints(tmp_path, "iter_100.pth", "iter_90.pth", "best_x_iter_200.pth")
    assert last_checkpoint(tmp_path) == (tmp_path / "iter_100.pth", 100)
    # The run went back to 90, and has moved to another folder since.
    (tmp_path / "last_checkpoint").write_text("/somewhere/iter_90.pth")
    assert last_checkpoint(tmp_path) == (tmp_path / "iter_90.pth", 90)


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path, capsys):
    checkpoints(tmp_path, "iter_100.pth", "iter_200.pth", "iter_300.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_300.pth"))
    for name in ("iter_300.pth", "iter_200.pth"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-100])
    cfg = Config({"work_dir": str(tmp_path), "load_from": "pretrained.pth"})
    resume(cfg, "auto")
    assert cfg.resume and cfg.load_from == str(tmp_path / "iter_100.pth")
    said = capsys.readouterr().out
    assert "iter_300.pth is damaged" in said and "iter_200.pth is damaged" in said
    with pytest.raises(InputError, match="damaged"):
        resume(cfg, str(tmp_path / "iter_200.pth"))


def test_a_run_that_ended_before_its_first_checkpoint_begins_with_its_weights(
    tmp_path, capsys
):
    (tmp_path / "run.json").touch()
    cfg = Config({"work_dir": str(tmp_path), "load_from": "pretrained.pth"})
    resume(cfg, "auto")
    assert not cfg.get("resume") and cfg.load_from == "pretrained.pth"
    assert "from the beginning" in capsys.readouterr().out
    resume(Config({"work_dir": str(tmp_path / "new")}), "auto")
    assert "from the beginning" in capsys.readouterr().out


def test_a_config_that_an_older_version_saved_loads(tmp_path):
    """Its packages have other names today, and some of its hooks are gone."""
    path = tmp_path / "config.py"
    path.write_text(
        "custom_imports = dict(imports=['custom.hooks', 'custom.visualization'])\n"
        "custom_hooks = [dict(type='RandomStateHook'), dict(type='RunRecordHook')]\n"
        "optim_wrapper = dict(type='FiniteLossAmpOptimWrapper')\n"
    )
    cfg = read_config(path)
    assert "custom.engine" in cfg.custom_imports["imports"]
    assert "custom.hooks" not in cfg.custom_imports["imports"]
    assert cfg.custom_hooks == [{"type": "RunRecordHook"}]
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
