"""What a run folder says of its data, its checkpoints and its surroundings."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from custom.engine import RunRecordHook, record
from custom.errors import InputError


class Toy(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, **kwargs):
        return {"loss": self.linear(torch.ones(1)).mean()}


def train(
    root: Path, work_dir: Path, wrap=lambda dataset: dataset, **options
) -> Runner:
    """A run of four steps that saves a checkpoint at every second."""
    dataset = {
        "type": "CellDataset",
        "data_root": str(root),
        "data_prefix": {"img": "train"},
        "split": "random_50-50_seed1",
        "pipeline": [],
    }
    loader = {
        "batch_size": 1,
        "sampler": {"type": "InfiniteSampler"},
        "collate_fn": lambda items: {},
    }
    runner = Runner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader={**loader, "dataset": wrap(dataset)},
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": 4,
            "val_begin": 99,
            **options,
        },
        val_dataloader={
            **loader,
            "sampler": {"type": "DefaultSampler"},
            "dataset": {**dataset, "subset": "val", "test_mode": True},
        },
        val_cfg={},
        val_evaluator=[],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={
            "checkpoint": {
                "type": "AtomicCheckpointHook",
                "interval": 2,
                "by_epoch": False,
                "max_keep_ckpts": 1,
            }
        },
        custom_hooks=[RunRecordHook()],
        resume=(work_dir / "last_checkpoint").exists(),
        default_scope="mmdet",
        experiment_name=f"{work_dir.parent.name}{options}",
    )
    runner.train()
    return runner


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize("wrapper", [None, "RepeatDataset", "ConcatDataset"])
def test_every_file_of_the_split_has_its_checksum(tiny_copy, tmp_path, wrapper):
    def wrap(dataset: dict) -> dict:
        if wrapper == "RepeatDataset":
            return {"type": wrapper, "times": 2, "dataset": dataset}
        if wrapper == "ConcatDataset":
            return {"type": wrapper, "datasets": [dataset, dataset]}
        return dataset

    train(tiny_copy, tmp_path / "run", wrap)
    result = load(tmp_path / "run" / "data.json")["sha256"]
    # Folders: the names do not tell where the files are.
    wanted = {
        f"{path.parent.name}/{path.stem}": sha256(path)
        for path in (tiny_copy / "train").glob("*/*.tif")
    }
    assert result == wanted and len(result) > 6


def test_surroundings_are_on_record(tiny_root, tmp_path, repo):
    runner = train(tiny_root, tmp_path / "run")
    content = load(tmp_path / "run" / "run.json")
    assert content["packages"]["torch"] == torch.__version__
    assert content["packages"]["onedl-mmdetection"]
    assert content["python"] == platform.python_version()
    assert content["environment"]["CUDA available"] == str(torch.cuda.is_available())
    assert content["data_root"] == str(tiny_root)
    assert content["train_images"] == len(runner.train_dataloader.dataset)
    if (repo / ".git").exists():
        assert len(content["git"]["commit"]) == 40
        changed = (tmp_path / "run" / "uncommitted.diff").exists()
        tracked = [f for f in content["git"]["changed_files"] if not f.startswith("??")]
        assert changed == bool(tracked)


def test_resuming_adds_to_the_record(tiny_root, tmp_path):
    train(tiny_root, tmp_path / "run")
    first = load(tmp_path / "run" / "run.json")
    assert "resumed" not in first
    train(tiny_root, tmp_path / "run", max_iters=6)
    content = load(tmp_path / "run" / "run.json")
    (again,) = content.pop("resumed")
    assert content == first and again["seed"] == first["seed"]


@pytest.mark.parametrize("file", ["image", "class2"])
def test_resuming_on_changed_data_is_refused(tiny_copy, tmp_path, file):
    train(tiny_copy, tmp_path / "run")
    before = load(tmp_path / "run" / "data.json")
    path = sorted((tiny_copy / "train").glob(f"*/{file}.tif"))[0]
    path.write_bytes(path.read_bytes() + b"\0")  # the pixels stay
    with pytest.raises(InputError, match="changed since the run began") as error:
        train(tiny_copy, tmp_path / "run", max_iters=6)
    assert error.value.source == str(path)
    assert load(tmp_path / "run" / "data.json") == before


def test_an_error_of_the_first_process_ends_all(monkeypatch):
    """The others would wait for it in the next collective call."""
    sent = []
    monkeypatch.setattr(record, "broadcast_object_list", sent.append)

    def fail(_) -> None:
        raise InputError("image.tif", "it has changed", "Restore it")

    with pytest.raises(InputError, match="it has changed"):
        record._in_first_process(fail, None)
    ((error,),) = sent
    monkeypatch.setattr(record, "is_main_process", lambda: False)
    monkeypatch.setattr(
        record, "broadcast_object_list", lambda errors: errors.__setitem__(0, error)
    )
    with pytest.raises(InputError, match="it has changed"):
        record._in_first_process(fail, None)
