"""A run of seconds whose end depends on every state that a checkpoint must hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from custom.datasets.samplers import SeededDraws
from custom.engine.runner import CellRunner

_number = itertools.count()


class Toy(BaseModel):
    """Dropout needs torch's generator, batch norm has buffers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5)
        )
        self.last = nn.Linear(width, 1)

    def forward(self, *rows, mode="loss"):
        inputs = torch.stack(rows)
        out = self.last(self.layers(inputs)).flatten()
        if mode == "loss":
            return {"loss": (out - inputs.sum(1)).square().mean()}
        return [{"error": float(error)} for error in (out - inputs.sum(1)).abs()]


class MeanError(BaseMetric):
    """The mean of what the toy says; it falls."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples) -> None:
        self.results += data_samples

    def compute_metrics(self, results) -> dict:
        return {"error": sum(r["error"] for r in results) / len(results)}


class Numbers:
    """Four numbers per index, and noise as augmentation."""

    def __init__(self, noise: float) -> None:
        self.noise, self.metainfo = noise, {}
        self.rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))

    def full_init(self) -> None:
        """There is no index to load."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index] + self.noise * torch.randn(4)


class SeededNumbers(SeededDraws, Numbers):
    """Numbers whose noise follows the draw."""


def runner(
    work_dir: Path,
    epochs: bool = False,
    hooks: tuple[Hook, ...] = (),
    resume: bool = False,
    checkpoint: dict | None = None,
    width: int = 8,
    accumulate: int = 1,
    batch_size: int = 2,
) -> CellRunner:
    """A run of 12 iterations in 3 epochs of 4, validated every 4, saved every 2."""
    loader = {"batch_size": batch_size, "num_workers": 0}
    length = {"type": "ResumableEpochLoop", "max_epochs": 3, "val_interval": 1}
    if not epochs:
        length = {"type": "IterBasedTrainLoop", "max_iters": 12, "val_interval": 4}
    sampler = "DrawSampler" if epochs else "InfiniteDrawSampler"
    torch.manual_seed(0)
    made = CellRunner(
        model=Toy(width),
        work_dir=str(work_dir),
        train_dataloader={
            **loader,
            "dataset": SeededNumbers(noise=0.1),
            "sampler": {"type": sampler, "shuffle": True},
        },
        val_dataloader={
            **loader,
            "dataset": Numbers(noise=0),
            "sampler": {"type": "DefaultSampler", "shuffle": False},
        },
        train_cfg=length,
        val_cfg={},
        val_evaluator=Evaluator(MeanError()),
        optim_wrapper={
            "type": "FiniteLossOptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 0.1},
            "accumulative_counts": accumulate,
        },
        param_scheduler={"type": "LinearLR", "by_epoch": False, "end": 12},
        default_hooks={
            "checkpoint": {
                "type": "AtomicCheckpointHook",
                "by_epoch": epochs,
                "interval": 1 if epochs else 2,
                "max_keep_ckpts": 2,
                "save_best": "toy/error",
                "rule": "less",
                **(checkpoint or {}),
            },
        },
        custom_hooks=[
            {"type": "EMAHook", "momentum": 0.3},
            {"type": "PreemptionHook"},
        ],
        randomness={"seed": 3},
        resume=resume,
        experiment_name=f"toy-{next(_number)}",
        default_scope="mmdet",
    )
    for hook in hooks:
        made.register_hook(hook, hook.priority)
    return made
