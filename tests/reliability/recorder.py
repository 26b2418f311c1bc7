"""What a process of a training run saw and did, for tests; configs import it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import TASK_UTILS
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Recorder(Hook):
    """Write samples and gradients of each process into the work directory.

    ``rank<r>.jsonl`` has a line for each iteration, the checksum of each sample;
    ``rank<r>.pth`` the gradients of each optimiser's step and the last state.
    """

    def before_train(self, runner) -> None:
        """Watch the optimiser."""
        self.gradients: list[dict] = []
        model = getattr(runner.model, "module", runner.model)

        def keep(*_) -> None:
            self.gradients.append(
                {
                    name: value.grad.clone()
                    for name, value in model.named_parameters()
                    if value.grad is not None
                }
            )

        runner.optim_wrapper.optimizer.register_step_pre_hook(keep)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Note the samples."""
        line = json.dumps([checksum(sample) for sample in _samples(data_batch)])
        with _path(runner, "jsonl").open("a") as file:
            file.write(line + "\n")

    def after_train(self, runner) -> None:
        """Note the end."""
        model = getattr(runner.model, "module", runner.model)
        state = {"gradients": self.gradients, "state": model.state_dict()}
        torch.save(state, _path(runner, "pth"))


def _path(runner, suffix: str) -> Path:
    return Path(runner.work_dir) / f"rank{runner.rank}.{suffix}"


def _samples(batch: dict):
    return zip(batch["inputs"], batch["data_samples"], strict=True)


def checksum(sample: tuple) -> str:
    """Of the pixels, boxes, labels and masks of a sample."""
    image, truth = sample
    instances = truth.gt_instances
    parts = [image, instances.bboxes.tensor, instances.labels]
    arrays = [*(part.numpy() for part in parts), instances.masks.to_ndarray()]
    digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays))
    return f"{truth.img_id}-{digest.hexdigest()[:16]}"


@TASK_UTILS.register_module()
class FirstSampler(RandomSampler):
    """Takes the first ones instead of random ones: no random number in a step."""

    def random_choice(self, gallery: torch.Tensor, num: int) -> torch.Tensor:
        """The first ``num``."""
        return gallery[:num]
