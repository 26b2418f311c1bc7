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
    split_of_run,
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


def test_rank_of_a_launcher_inside_slurm_counts(tmp_path, monkeypatch):
    (tmp_path / "iter_2.pth").touch()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(InputError):
        guard_work_dir(tmp_path)


def test_split_of_run(tmp_path):
    assert split_of_run(tmp_path) is None
    (tmp_path / "split.json").touch()
    assert split_of_run(tmp_path) == str(tmp_path / "split.json")


def cell(**kwargs) -> dict:
    return {"type": "CellDataset", "split": "random_80-20", **kwargs}


def splits_of(node) -> list[str]:
    """Every value of a key named split, at any depth."""
    if isinstance(node, dict):
        own = [node["split"]] if "split" in node else []
        return own + [s for value in node.values() for s in splits_of(value)]
    if isinstance(node, (list, tuple)):
        return [s for value in node for s in splits_of(value)]
    return []


@pytest.mark.parametrize(
    "dataset",
    [
        cell(),
        {"type": "RepeatDataset", "times": 2, "dataset": cell()},
        {
            "type": "MultiImageMixDataset",
            "dataset": {"type": "ClassBalancedDataset", "dataset": cell()},
        },
        {"type": "ConcatDataset", "datasets": [cell(), cell(data_root="more")]},
        {
            "type": "ConcatDataset",
            "datasets": [{"type": "RepeatDataset", "dataset": cell()}, cell()],
        },
    ],
)
def test_set_split_reaches_data_sets_inside_wrappers(dataset):
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    cfg = Config({name: {"batch_size": 1, "dataset": dataset} for name in loaders})
    before = splits_of(cfg.to_dict())
    set_split(cfg, "run/split.json")
    after = splits_of(cfg.to_dict())
    assert set(before) == {"random_80-20"} and set(after) == {"run/split.json"}
    assert len(after) == len(before)


def test_set_split_leaves_absent_loaders_and_unlabelled_images_alone():
    cfg = Config(
        {
            "train_dataloader": {"dataset": cell()},
            "val_dataloader": None,
            "test_dataloader": {"dataset": {"type": "CellTestDataset"}},
            "submission_dataloader": {"dataset": {"type": "CellTestDataset"}},
        }
    )
    set_split(cfg, "split.json")
    assert cfg.train_dataloader.dataset.split == "split.json"
    assert cfg.test_dataloader.dataset == {"type": "CellTestDataset"}
    assert cfg.submission_dataloader.dataset == {"type": "CellTestDataset"}


def test_set_split_on_the_baseline_config(repo: Path):
    cfg = Config.fromfile(repo / "configs/cell/maskrcnn_r50.py")
    set_split(cfg, "mine.json")
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [loader.dataset.split for loader in loaders] == ["mine.json"] * 3
    assert [loader.dataset.subset for loader in loaders] == ["train", "val", "val"]


def checkpoints(folder: Path, *names: str) -> None:
    for name in names:
        write_checkpoint(folder / name, {"name": name})


def test_the_last_checkpoint_is_the_named_one_and_else_the_newest(tmp_path):
    assert last_checkpoint(tmp_path) is None
    checkpoints(tmp_path, "iter_100.pth", "iter_90.pth", "best_x_iter_200.pth")
    assert last_checkpoint(tmp_path) == (tmp_path / "iter_100.pth", 100)
    # The run went back to 90, and has moved to another folder since.
    (tmp_path / "last_checkpoint").write_text("/somewhere/iter_90.pth")
    assert last_checkpoint(tmp_path) == (tmp_path / "iter_90.pth", 90)


def test_a_checkpoint_in_an_epoch_is_newer_than_the_one_before_it(tmp_path):
    checkpoints(tmp_path, "epoch_9.pth", "epoch_10.pth", "epoch_10-iter_700.pth")
    assert last_checkpoint(tmp_path) == (tmp_path / "epoch_10-iter_700.pth", 10)


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
