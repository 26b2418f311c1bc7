"""The training losses on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.dist import broadcast_object_list, collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData

from custom.datasets.samplers import seeded_random_numbers


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Add ``val/loss`` and its parts to the metrics of each validation.

    The losses are those of the training step (``mode='loss'``), on the validation
    images at the size at which the network tests them, without augmentation and
    without gradient; the mean over the images. The model stays in evaluation mode, so
    that batch norm uses its running statistics and leaves them alone. Proposals are
    sampled with the seed of the image (``img_id``) at each validation, and the
    training's random generators are not advanced.

    They are metrics like any other: ``save_best='val/loss'`` and
    ``EarlyStoppingHook(monitor='val/loss')`` work.
    """

    # The metrics are completed before RuntimeInfoHook (VERY_HIGH) logs them.
    priority = "HIGHEST"

    def before_val_epoch(self, runner) -> None:
        """Start with no losses."""
        self._losses: list[dict[str, float]] = []

    @torch.no_grad()
    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Compute the losses of a batch, each image by itself."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        samples = in_network_frame(data_batch["data_samples"])
        devices = range(torch.cuda.device_count())
        for image, sample in zip(data_batch["inputs"], samples, strict=True):
            with seeded_random_numbers(sample.img_id, devices):
                batch = {"inputs": [image], "data_samples": [sample]}
                data = model.data_preprocessor(batch, training=False)
                _, parts = model.parse_losses(model(**data, mode="loss"))
            self._losses.append({name: value.item() for name, value in parts.items()})

    def after_val_epoch(self, runner, metrics: dict) -> None:  # type: ignore[override]
        """Add the means to the metrics."""
        # In the order of the data set, without the images that fill up the last round
        # of several processes: the means equal those of one process to the bit.
        losses = collect_results(self._losses, len(runner.val_dataloader.dataset))
        means: list[dict] = [{}]
        if is_main_process():
            means = [{f"val/{k}": fmean(row[k] for row in losses) for k in losses[0]}]
        broadcast_object_list(means)
        metrics.update(means[0])


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
