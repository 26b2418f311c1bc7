"""torchvision's weights under the names that they have here."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from custom.io.checkpoint import read_checkpoint, write_checkpoint

# Parts of the names of Mask R-CNN v2 (torchvision/models/detection/mask_rcnn.py and the
# modules that it builds) and what MMDetection calls them.
_NAMES = (
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"neck.lateral_convs.\1.bn."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"neck.fpn_convs.\1.bn."),
    (r"rpn\.head\.conv\.(\d)\.0\.", r"rpn_head.rpn_conv.\1.conv."),
    (r"rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"roi_heads\.box_head\.5\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"roi_heads\.box_head\.(\d)\.0\.", r"roi_head.bbox_head.shared_convs.\1.conv."),
    (r"roi_heads\.box_head\.(\d)\.1\.", r"roi_head.bbox_head.shared_convs.\1.bn."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"roi_heads\.mask_head\.(\d)\.1\.", r"roi_head.mask_head.convs.\1.bn."),
)
# Made anew for other classes, as the users of these weights do.
_PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.")
_FILE = "maskrcnn_resnet50_fpn_v2_coco"


def rename_mask_rcnn_v2(
    state: dict[str, Tensor], in_channels: int = 3
) -> dict[str, Tensor]:
    """The weights of ``maskrcnn_resnet50_fpn_v2`` for the same model in MMDetection.

    The last layers of the box and mask heads are left out.

    Args:
        state: torchvision's state dict.
        in_channels: Of the images. With 1, the stem gets the sum of its weights over
            red, green and blue, which gives what a gray image in three equal channels
            would give.

    Raises:
        KeyError: A name that this model does not have.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith(_PREDICTORS):
            continue
        for pattern, replacement in _NAMES:
            own, matches = re.subn(f"^{pattern}", replacement, name)
            if matches:
                renamed[own] = value
                break
        else:
            raise KeyError(f"{name} is no weight of torchvision's Mask R-CNN v2")
    if in_channels == 1:
        stem = renamed["backbone.conv1.weight"]
        renamed["backbone.conv1.weight"] = stem.sum(dim=1, keepdim=True)
    return renamed


# Parts of a ConvNeXt block (torchvision/models/convnext.py, CNBlock).
_BLOCK = {
    "layer_scale": "gamma",
    "block.0": "depthwise_conv",
    "block.2": "norm",
    "block.3": "pointwise_conv1",
    "block.5": "pointwise_conv2",
}


def rename_convnext(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's ConvNeXt for :class:`custom.models.ConvNeXt`.

    ``features`` are the stem, the first stage, a downsampling, the second stage, and so
    on. The classifier is left out.

    Args:
        state: A state dict; one of other names is returned as it is.
    """
    if "features.0.0.weight" not in state:
        return state
    renamed = {}
    for name, value in state.items():
        if not name.startswith("features."):
            continue
        number, rest = name.removeprefix("features.").split(".", 1)
        stage, is_stage = divmod(int(number), 2)
        if is_stage:
            block, rest = rest.split(".", 1)
            part = next(part for part in _BLOCK if rest.startswith(part))
            rest = rest.replace(part, _BLOCK[part], 1)
            if part == "layer_scale":
                value = value.flatten()  # (C, 1, 1)
            renamed[f"stages.{stage}.{block}.{rest}"] = value
        else:
            renamed[f"downsample_layers.{stage}.{rest}"] = value
    return renamed


def with_own_names(path: Path, in_channels: int) -> Path:
    """Where a weight file lies under MMDetection's names; written at the first call.

    Args:
        path: Any weight file; other files than torchvision's Mask R-CNN v2 are
            returned as they are. The file need not be there yet, if another process is
            downloading it.
        in_channels: See :func:`rename_mask_rcnn_v2`.
    """
    if not path.name.startswith(_FILE):
        return path
    folder = Path(torch.hub.get_dir(), "checkpoints")
    target = folder / f"{path.stem}_mmdet-{in_channels}ch.pth"
    if path.exists() and not target.exists():
        write_checkpoint(
            target, rename_mask_rcnn_v2(read_checkpoint(path), in_channels)
        )
    return target
