"""The mask head of Mask R-CNN without full frames."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead, HTCMaskHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from torch import Tensor
from torch.nn.modules.utils import _pair

from custom.structures import LabelMasks, RoIMasks


@MODELS.register_module()
class RoIFCNMaskHead(FCNMaskHead):
    """:class:`mmdet.FCNMaskHead` with box-local targets and predictions.

    The layers, the loss and the options are the stock head's. Targets of
    :class:`LabelMasks` are sampled on the device of the boxes; targets of any other
    type of masks are made by the stock head. Predictions are :class:`RoIMasks`.
    """

    def get_targets(
        self,
        sampling_results: list,
        batch_gt_instances: list,
        rcnn_train_cfg: ConfigDict,
    ) -> Tensor:
        """(K, h, w) float32 mask targets of the positive RoIs of all images.

        Values are 0 and 1, or the covered share with ``soft_mask_target``. Planes of
        the label images go to the device of the boxes at the first call.
        """
        masks = [gt.masks for gt in batch_gt_instances]
        if not all(isinstance(item, LabelMasks) for item in masks):
            return super().get_targets(
                sampling_results, batch_gt_instances, rcnn_train_cfg
            )
        targets = []
        for result, item in zip(sampling_results, masks, strict=True):
            boxes = get_box_tensor(result.pos_priors).clamp(min=0)
            boxes[:, 0::2].clamp_(max=item.width)
            boxes[:, 1::2].clamp_(max=item.height)
            size = _pair(rcnn_train_cfg.mask_size)
            targets.append(item.roi_align(boxes, result.pos_assigned_gt_inds, size))
        targets = torch.cat(targets)
        if rcnn_train_cfg.get("soft_mask_target", False):
            return targets
        return (targets >= 0.5).to(targets.dtype)

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> RoIMasks:
        """The N masks of one image; (N, 4) ``bboxes`` are rescaled in place."""
        scale = bboxes.new_tensor(img_meta["scale_factor"]).repeat((1, 2))
        height, width = img_meta["ori_shape"][:2]
        if rescale:
            bboxes /= scale
        else:
            height = round(height * scale[0, 1].item())
            width = round(width * scale[0, 0].item())
        probs = mask_preds if activate_map else mask_preds.sigmoid()
        if self.class_agnostic:
            probs = probs[:, 0]
        else:
            probs = probs[torch.arange(len(probs), device=probs.device), labels]
        return RoIMasks(probs, bboxes, (height, width), rcnn_test_cfg.mask_thr_binary)


@MODELS.register_module()
class RoIHTCMaskHead(RoIFCNMaskHead, HTCMaskHead):
    """:class:`mmdet.HTCMaskHead` with box-local targets and predictions."""
