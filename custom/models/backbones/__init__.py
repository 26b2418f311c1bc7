"""Backbones that MMDetection lacks."""

from custom.models.backbones.convnext import ConvNeXt
from custom.models.backbones.efficientnet_v2 import EfficientNetV2
from custom.models.backbones.resnet import UnpooledResNet

__all__ = ["ConvNeXt", "EfficientNetV2", "UnpooledResNet"]
