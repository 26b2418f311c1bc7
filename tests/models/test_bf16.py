"""BF16 convolutions inside a model whose other parts are FP32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmcv.ops import RoIAlign
from torch import nn

from custom.models import BF16Hook


def prepared(hook: BF16Hook) -> nn.Module:
    """A convolution that the hook has prepared, as Runner.train and test do."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 16, 3, padding=1)})
    hook.before_train(SimpleNamespace(model=model))
    hook.before_test(SimpleNamespace(model=model))
    return model["conv"]


def test_roi_align_takes_the_features_as_those_of_fp32():
    conv = prepared(BF16Hook(["conv"]))
    images = torch.rand(2, 3, 32, 32)
    rois = torch.tensor([[0, 2, 2, 20, 25], [1, 5, 5, 30, 30]]).float()
    align = RoIAlign(7)
    result = align(conv(images), rois)
    features = nn.functional.conv2d(images, conv.weight, conv.bias, padding=1)
    expected = align(features.contiguous(), rois)
    assert result.dtype == torch.float32
    # BF16 has 8 bits.
    assert (result - expected).abs().max() < 0.01 * expected.abs().max()


def test_autocast_ends_with_the_module_also_after_an_error():
    conv = prepared(BF16Hook(["conv"]))
    conv(torch.rand(1, 3, 8, 8))
    assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(RuntimeError):
        conv(torch.rand(1, 5, 8, 8))
    assert not torch.is_autocast_enabled("cpu")
