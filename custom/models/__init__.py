"""Heads, backbones and wrappers that the stock library lacks."""

from .convnext import ConvNeXt
from .efficientnet_v2 import EfficientNetV2
from .roi_fcn_mask_head import RoIFCNMaskHead

__all__ = ["ConvNeXt", "EfficientNetV2", "RoIFCNMaskHead"]
