"""Test-time augmentation with masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from custom.inference.views import View
from custom.models.tiled_detector import Part, TiledDetector, predict_tiles
from custom.structures import RoIMasks


@MODELS.register_module()
class MaskTTAModel(BaseTTAModel):
    """Flips, rotations by right angles and scales for the Mask R-CNN family.

    As detectron2's ``GeneralizedRCNNWithTTA``: the detector's non-maximum suppression
    merges the boxes of all views in the original frame; then the mask head predicts the
    merged boxes in every view, and its probabilities are turned back and averaged. One
    view is in memory at a time, so each goes through the backbone twice.

    With a :class:`TiledDetector` inside, all of this happens in each tile.

    Args:
        kwargs: ``module``, the detector, see :class:`BaseTTAModel`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.test_cfg = self.module.roi_head.test_cfg

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Predict images of which a data loader gives several views.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views, each a list of
                images, as ``TestTimeAug`` and ``pseudo_collate`` make them.

        Returns:
            The sample of each image's first view with ``pred_instances``.
        """
        results = []
        for images, samples in zip(
            zip(*data["inputs"], strict=True),
            zip(*data["data_samples"], strict=True),
            strict=True,
        ):
            result = samples[0]
            result.pred_instances = self._test_image(images, samples)
            results.append(result)
        return results

    def _test_image(
        self, images: Sequence[Tensor], samples: Sequence[DetDataSample]
    ) -> InstanceData:
        if isinstance(self.module, TiledDetector):
            grid = self.module.grid(samples[0].ori_shape[:2])
            if len(grid) > 1:
                batch_size = self.module.tile_batch
                return predict_tiles(grid, images, samples, batch_size, self._predict)
        places = (View.of(sample.metainfo) for sample in samples)
        (instances,) = self._predict(
            [[view] for view in zip(images, samples, places, strict=True)]
        )
        return instances

    def _predict(self, views: Sequence[Sequence[Part]]) -> list[InstanceData]:
        """Predict a batch of tiles or images, each in all views."""
        boxes = zip(*(self._detect(parts) for parts in views), strict=True)
        merged = [sample.pred_instances for sample in self.merge_preds(list(boxes))]
        head = self.module.roi_head
        total = [0.0] * len(merged)
        for parts in views if any(map(len, merged)) else []:
            features, samples = self._features(parts)
            # The head replaces what is in the boxes: a copy for each view.
            view_boxes = [
                InstanceData(
                    bboxes=view.from_original(pred.bboxes),
                    scores=pred.scores,
                    labels=pred.labels,
                )
                for pred, (_, _, view) in zip(merged, parts, strict=True)
            ]
            metas = [sample.metainfo for sample in samples]
            masked = head.predict_mask(features, metas, view_boxes, rescale=False)
            for i, (pred, (_, _, view)) in enumerate(zip(masked, parts, strict=True)):
                if len(pred):
                    total[i] = total[i] + view.element.undo(pred.masks.probs)
        for pred, summed, (_, sample, _) in zip(merged, total, views[0], strict=True):
            if not len(pred):
                summed = pred.bboxes.new_zeros((0, 1, 1))
            size = sample.get("image_shape", sample.ori_shape)[:2]
            pred.masks = RoIMasks(
                summed / len(views), pred.bboxes, size, self.test_cfg.mask_thr_binary
            )
        return merged

    def _features(
        self, parts: Sequence[Part]
    ) -> tuple[tuple[Tensor, ...], list[DetDataSample]]:
        images, samples, _ = map(list, zip(*parts, strict=True))
        data = {"inputs": images, "data_samples": samples}
        data = self.module.data_preprocessor(data, False)
        return self.module.extract_feat(data["inputs"]), data["data_samples"]

    def _detect(self, parts: Sequence[Part]) -> list[DetDataSample]:
        """One view's boxes in the original frame."""
        features, samples = self._features(parts)
        proposals = self.module.rpn_head.predict(features, samples, rescale=False)
        head = self.module.roi_head
        detections = head.predict_bbox(
            features,
            [sample.metainfo for sample in samples],
            proposals,
            head.test_cfg,
            rescale=False,
        )
        for pred, (_, _, view) in zip(detections, parts, strict=True):
            pred.bboxes = view.to_original(pred.bboxes)
        return [
            DetDataSample(metainfo=sample.metainfo, pred_instances=pred)
            for sample, pred in zip(samples, detections, strict=True)
        ]

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Merge the boxes of several views.

        Args:
            data_samples_list: The views of each image, with ``bboxes, scores, labels``
                in the original frame.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _merge(self, samples: Sequence[DetDataSample]) -> DetDataSample:
        views = [sample.pred_instances for sample in samples]
        boxes, scores, labels = (
            torch.cat([view[key] for view in views])
            for key in ("bboxes", "scores", "labels")
        )
        if len(boxes):  # mmcv's NMS does not take an empty input
            suppressed, indices = batched_nms(boxes, scores, labels, self.test_cfg.nms)
            boxes, scores, labels = suppressed[:, :4], suppressed[:, 4], labels[indices]
        merged = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return DetDataSample(
            metainfo=samples[0].metainfo,
            pred_instances=merged[: self.test_cfg.max_per_img],
        )
