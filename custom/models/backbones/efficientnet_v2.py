"""EfficientNetV2-M as a backbone.

MMDetection has the first version only. mmpretrain has the second one, and its models
cannot be imported without torchvision; this file needs torch and mmcv only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks import DropPath
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

# Stages of EfficientNetV2-M (arXiv 2104.00298, table 4 scaled as in torchvision):
# fused, expansion, stride, channels, layers.
STAGES = (
    (True, 1, 1, 24, 3),
    (True, 4, 2, 48, 5),
    (True, 4, 2, 80, 5),
    (False, 4, 2, 160, 7),
    (False, 6, 1, 176, 14),
    (False, 6, 2, 304, 18),
    (False, 6, 1, 512, 5),
)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act=True
) -> nn.Sequential:
    """Convolution, batch norm with the eps of the second version, SiLU."""
    layers = [
        nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(outputs, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([nn.SiLU(inplace=True)] if act else []))


class SqueezeExcitation(nn.Module):
    """Channel attention (arXiv 1709.01507) with SiLU inside."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of (N, C, H, W)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(mean))))


class Block(nn.Module):
    """MBConv, or fused MBConv: one 3x3 convolution instead of 1x1 and depthwise."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        fused: bool,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        if fused and expansion == 1:
            layers = [_conv(inputs, outputs, 3, stride)]
        elif fused:
            layers = [
                _conv(inputs, wide, 3, stride),
                _conv(wide, outputs, 1, act=False),
            ]
        else:
            layers = [
                _conv(inputs, wide, 1),
                _conv(wide, wide, 3, stride, groups=wide),
                SqueezeExcitation(wide, inputs // 4),
                _conv(wide, outputs, 1, act=False),
            ]
        self.block = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.block(x)
        return x + self.drop_path(y) if self.shortcut else y


@MODELS.register_module()
class EfficientNetV2(BaseModule):
    """EfficientNetV2-M with the names of torchvision, whose weights load as they are.

    Args:
        stages: See :data:`STAGES`.
        out_indices: Stages that are returned, counted from 1. The default has strides
            4, 8, 16 and 32 and 48, 80, 176 and 512 channels.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        frozen_stages: -1 trains everything, 0 freezes the stem, n the stem and the
            first n stages.
        init_cfg: Weights.
    """

    def __init__(
        self,
        stages: Sequence[tuple[bool, int, int, int, int]] = STAGES,
        out_indices: Sequence[int] = (2, 3, 5, 7),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        channels, total, number = stages[0][3], sum(s[4] for s in stages), 0
        features = [_conv(3, channels, 3, stride=2)]
        for fused, expansion, stride, width, layers in stages:
            blocks = []
            for i in range(layers):
                rate = drop_path_rate * number / total
                blocks.append(
                    Block(channels, width, 1 if i else stride, expansion, fused, rate)
                )
                channels, number = width, number + 1
            features.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*features)
        for module in self.features[: frozen_stages + 1]:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetV2:
        """Set the mode; frozen stages keep their batch statistics."""
        super().train(mode)
        for module in self.features[: self.frozen_stages + 1]:
            module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to the outputs of the chosen stages."""
        outputs = []
        for i, stage in enumerate(self.features):
            x = stage(x)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
