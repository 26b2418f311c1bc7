"""Heads, backbones and wrappers that the stock library lacks."""

from .convnext import ConvNeXt
from .efficientnet_v2 import EfficientNetV2
from .mask_tta import MaskTTAModel
from .roi_fcn_mask_head import RoIFCNMaskHead
from .tiled_detector import TiledDetector
from .weights import prepare_weights

__all__ = [
    "ConvNeXt",
    "EfficientNetV2",
    "MaskTTAModel",
    "RoIFCNMaskHead",
    "TiledDetector",
    "prepare_weights",
]
