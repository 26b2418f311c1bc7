"""Backbones that MMDetection lacks; a config that uses one names this package."""

from custom.models.backbones.convnext import ConvNeXt
from custom.models.backbones.efficientnet_v2 import EfficientNetV2

__all__ = ["ConvNeXt", "EfficientNetV2"]
