"""The training losses on the validation images."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.dist import all_reduce_dict
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Add ``val/loss`` and its parts to the figures of each validation.

    The losses are those of the training step (``mode='loss'``), on the validation
    images at the size at which the network tests them, without augmentation and
    without gradient; the mean over the images. The model stays in evaluation mode, so
    that batch norm uses its running statistics and leaves them alone. Proposals are
    sampled with the same seed at each validation, and the random numbers of the
    training go on as if nothing had happened.

    The figures are metrics like any other: ``save_best='val/loss'`` and
    ``EarlyStoppingHook(monitor='val/loss')`` work.
    """

    # The metrics are completed before RuntimeInfoHook (VERY_HIGH) logs them.
    priority = "HIGHEST"

    def before_val_epoch(self, runner) -> None:
        """Begin anew."""
        self._sums: Counter = Counter()

    @torch.no_grad()
    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Compute the losses of a batch."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        batch = {
            "inputs": data_batch["inputs"],
            "data_samples": in_network_frame(data_batch["data_samples"]),
        }
        with _own_random_numbers(batch_idx):
            data = model.data_preprocessor(batch, training=False)
            losses = model(**data, mode="loss")
        _, parts = model.parse_losses(losses)
        count = len(batch["data_samples"])
        self._sums["images"] += count
        for name, value in parts.items():
            self._sums[name] += value.detach().double() * count

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Add the means to the metrics."""
        if metrics is None or not self._sums:
            return
        images = self._sums.pop("images")
        device = next(iter(self._sums.values())).device
        sums = {"images": torch.tensor(float(images), device=device), **self._sums}
        all_reduce_dict(sums)
        images = sums.pop("images")
        metrics.update({f"val/{k}": (v / images).item() for k, v in sums.items()})


def in_network_frame(samples: Sequence[DetDataSample]) -> list[DetDataSample]:
    """Resize ground truth to the images that the network sees.

    The validation pipeline keeps ground truth in the original frame, where the metric
    wants it; the losses want it as ``Resize`` would leave it.

    Args:
        samples: Samples whose ``gt_instances`` and ``ignored_instances`` have boxes
            (N, 4) in pixels of their masks' frame.

    Returns:
        New samples; those given are not changed.
    """
    resized = []
    for sample in samples:
        result = sample.clone()
        for field in ("gt_instances", "ignored_instances"):
            if field in sample:
                scaled = _resize(sample.get(field), sample.img_shape)
                result.set_field(scaled, field, dtype=InstanceData)
        resized.append(result)
    return resized


def _resize(instances: InstanceData, size: tuple[int, int]) -> InstanceData:
    """The same instances with masks of another (H, W)."""
    masks, boxes = instances.masks, get_box_tensor(instances.bboxes)
    if (masks.height, masks.width) == tuple(size):
        return instances
    scale = boxes.new_tensor([size[1] / masks.width, size[0] / masks.height])
    return InstanceData(
        bboxes=boxes * scale.repeat(2),
        labels=instances.labels,
        masks=masks.resize(size),
    )


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Seed all generators, and leave them afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
