"""A run that runs out of memory names its images and ends."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Client
from typing import ClassVar

import psutil
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from custom.engine import CellRunner
from custom.errors import InputError

# Bytes: enough for the start, too little for a large batch.
GPU = pytest.param(
    "gpu",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    ],
)


class Hungry(BaseModel):
    """Fails, as asked, at images whose name begins with ``dense``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.linear = how, nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode="loss"):
        if mode == self.stage and data_samples[0].img_path.startswith("dense"):
            if self.how == "torch":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            if self.how == "numpy":
                raise MemoryError("Unable to allocate 3 GiB")
            if self.how == "bug":
                raise RuntimeError("shapes do not match")
            torch.empty(1 << 60, dtype=torch.uint8, device=inputs[0].device)
        loss = self.linear(torch.stack(inputs)).mean()
        return {"loss": loss} if mode == "loss" else data_samples


def sample(name: str, instances: int) -> DetDataSample:
    sample = DetDataSample(metainfo={"img_path": name, "img_shape": (64, 48)})
    sample.gt_instances = InstanceData(labels=torch.zeros(instances))
    return sample


def runner(tmp_path, how: str, stage: str) -> CellRunner:
    batches = [
        {"inputs": [torch.ones(1)], "data_samples": [sample("easy.tif", 1)]},
        {
            "inputs": [torch.ones(1)] * 2,
            "data_samples": [sample("dense1.tif", 870), sample("dense2.tif", 12)],
        },
    ]
    loader = {
        "dataset": batches,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": lambda items: items[0],
        "batch_size": 1,
    }
    model = Hungry(how)
    model.stage = {"train": "loss"}.get(stage, "predict")
    evaluator = {"type": "DumpResults", "out_file_path": str(tmp_path / "x.pkl")}
    return CellRunner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 1},
        val_dataloader=loader,
        val_cfg={},
        val_evaluator=evaluator,
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=evaluator,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={"checkpoint": None},
        experiment_name=tmp_path.name,
    )


@pytest.mark.parametrize("how", ["torch", "numpy", "real", GPU])
@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_images_instances_sizes_memory_and_remedy_are_named(tmp_path, how, stage):
    run = runner(tmp_path, how, stage)
    with pytest.raises(InputError) as error:
        run.test() if stage == "test" else run.train()
    assert error.value.source == (
        "dense1.tif (48x64 px, 870 instances); dense2.tif (48x64 px, 12 instances)"
    )
    assert "a batch of 2" in error.value.reason
    if stage == "train":
        assert "iteration 2" in error.value.reason
        for word in ("batch_size below 2", "crop_size", "--amp", "accumulative_counts"):
            assert word in error.value.remedy
    else:
        assert f"{stage}_dataloader.batch_size" in error.value.remedy
        assert "TiledDetector" in error.value.remedy


def test_other_errors_stay_what_they_are(tmp_path):
    run = runner(tmp_path, "bug", "train")
    with pytest.raises(RuntimeError, match="shapes"):
        run.train()


def test_a_batch_that_cannot_be_loaded_is_not_blamed_on_the_one_before(tmp_path):
    class Data(list):
        def __getitem__(self, index):
            if index == 1:
                raise MemoryError("no room")
            return super().__getitem__(index)

    run = runner(tmp_path, "torch", "train")
    run._train_dataloader["dataset"] = Data(run._train_dataloader["dataset"])
    refused = pytest.raises(InputError, match=r"between batches.*num_workers")
    with refused as error:
        run.train()
    assert "easy" not in str(error.value)


class Numbers:
    """Data of which there is enough."""

    metainfo: ClassVar[dict] = {}

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        return {"inputs": torch.ones(1), "data_samples": sample("easy.tif", 1)}


class KillWorker(Hook):
    """Ends a process that loads data at the third iteration."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 2:
            os.kill(psutil.Process().children()[0].pid, self.number)


def train_with_dying_worker(tmp_path, number: signal.Signals) -> str:
    """The message that a run ends with.

    In a process of its own: torch raises again at every child that ends later.
    """
    process = get_context("fork").Process(target=_train, args=(tmp_path, number))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("the run hangs")
    return (tmp_path / "message").read_text()


def _train(tmp_path, number: signal.Signals) -> None:
    run = runner(tmp_path, "torch", "train")
    run._train_dataloader = {
        "dataset": Numbers(),
        "sampler": {"type": "InfiniteSampler"},
        "batch_size": 2,
        "num_workers": 2,
    }
    run._train_loop = {"type": "IterBasedTrainLoop", "max_iters": 10_000}
    run.register_hook(KillWorker(number))
    try:
        run.train()
    except InputError as error:
        (tmp_path / "message").write_text(str(error))
    os._exit(0)


def test_a_killed_loader_worker_is_reported(tmp_path):
    message = train_with_dying_worker(tmp_path, signal.SIGKILL)
    assert message.startswith(f"{tmp_path}: a loader worker has died")
    assert "num_workers" in message and "--resume" in message


class Failing(Numbers):
    """Data that cannot be had, for one reason or another."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __getitem__(self, index: int) -> dict:
        if self.how == "left behind":  # as in fetching a batch of a dead process
            Client("/nonexistent/socket")
        raise FileNotFoundError("image.tif")


@pytest.mark.parametrize(
    ("how", "workers", "expected", "words"),
    [
        ("left behind", 0, InputError, "loader worker has died"),
        ("file", 1, FileNotFoundError, "image.tif"),
    ],
)
def test_a_process_that_fails_is_not_one_that_died(
    tmp_path, how, workers, expected, words
):
    run = runner(tmp_path, "torch", "train")
    run._train_dataloader |= {"dataset": Failing(how), "num_workers": workers}
    del run._train_dataloader["collate_fn"]
    with pytest.raises(expected, match=words):
        run.train()
