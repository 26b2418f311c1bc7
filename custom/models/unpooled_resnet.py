"""ResNet with features at stride 2."""

from __future__ import annotations

from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class UnpooledResNet(ResNet):
    """ResNet without the stem's max pooling: features at stride 2, 4, 8 and 16.

    It has ResNet's parameters and takes its pretrained weights.
    """

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool = nn.Identity()
