"""ConvNeXt and ConvNeXt V2 as backbones.

MMDetection takes them from mmpretrain, whose models cannot be imported without
torchvision; this file needs torch and mmcv only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks import DropPath
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from custom.models.weight_names import rename_convnext


class GRN(nn.Module):
    """Global response normalisation of (N, H, W, C), arXiv 2301.00808, section 3.3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Calibrate each channel by its share of the energy."""
        energy = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        share = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution and an inverted bottleneck, arXiv 2201.03545, fig. 4."""

    def __init__(self, channels: int, drop_path_rate: float, use_grn: bool) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(
            channels, channels, 7, padding=3, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pointwise_conv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.grn = GRN(4 * channels) if use_grn else nn.Identity()
        self.pointwise_conv2 = nn.Linear(4 * channels, channels)
        # V2 has no layer scale.
        self.gamma = None if use_grn else nn.Parameter(torch.full((channels,), 1e-6))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        y = self.depthwise_conv(x).permute(0, 2, 3, 1)
        y = self.act(self.pointwise_conv1(self.norm(y)))
        y = self.pointwise_conv2(self.grn(y))
        if self.gamma is not None:
            y = y * self.gamma
        return x + self.drop_path(y.permute(0, 3, 1, 2))


@MODELS.register_module()
class ConvNeXt(BaseModule):
    """ConvNeXt (arXiv 2201.03545) or ConvNeXt V2 (arXiv 2301.00808), by default Base.

    The parameters have mmpretrain's names, so its files of both versions load with
    ``prefix='backbone.'``; torchvision's files are recognised and load as they are.
    Each output has a layer norm of its own, as in the authors' detectors: it is not in
    the files, and starts as the identity up to scale.

    Args:
        depths: Blocks of each stage.
        channels: Channels of each stage.
        use_grn: ConvNeXt V2.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        frozen_layers: How many of the eight layers, from the input on, are frozen: the
            stem, the first stage, a downsampling, the second stage, and so on
            (``features`` in torchvision).
        init_cfg: Weights.

    The outputs are the four stages, with strides 4, 8, 16 and 32.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 27, 3),
        channels: Sequence[int] = (128, 256, 512, 1024),
        use_grn: bool = False,
        drop_path_rate: float = 0.0,
        frozen_layers: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.frozen_layers = frozen_layers
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * i / last for i in range(sum(depths))])
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            if i == 0:
                layers = [nn.Conv2d(3, width, 4, stride=4), LayerNorm2d(width)]
            else:
                layers = [
                    LayerNorm2d(channels[i - 1]),
                    nn.Conv2d(channels[i - 1], width, 2, stride=2),
                ]
            self.downsample_layers.append(nn.Sequential(*layers))
            blocks = [ConvNeXtBlock(width, next(rates), use_grn) for _ in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            self.add_module(f"norm{i}", LayerNorm2d(width))
        self._register_load_state_dict_pre_hook(self._rename)
        self._freeze()

    @staticmethod
    def rename_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under this module's names, see :func:`rename_convnext`."""
        return rename_convnext(state)

    def _rename(self, state: dict, prefix: str, *_) -> None:
        weights = {k: v for k, v in state.items() if k.startswith(prefix)}
        for key in weights:
            del state[key]
        weights = self.rename_weights({k[len(prefix) :]: v for k, v in weights.items()})
        state.update({prefix + k: v for k, v in weights.items()})

    def _frozen(self) -> list[nn.Module]:
        pairs = zip(self.downsample_layers, self.stages, strict=True)
        return [layer for pair in pairs for layer in pair][: self.frozen_layers]

    def _freeze(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> ConvNeXt:
        """Set the mode; frozen layers drop no paths."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to the normalised outputs of the stages."""
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[i](x))
            outputs.append(getattr(self, f"norm{i}")(x))
        return tuple(outputs)
