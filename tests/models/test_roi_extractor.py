"""RoI features are sampled in FP32 whatever the features are."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from custom.models import Fp32RoIExtractor

OPTIONS = {
    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
    "out_channels": 2,
    "featmap_strides": [4, 8],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_features_equal_those_of_fp32(dtype):
    torch.manual_seed(0)
    levels = tuple(torch.rand(2, 2, side, side).to(dtype) for side in (256, 128))
    # Coordinates that FP16 and BF16 cannot hold.
    corner = torch.rand(20, 2) * 200 + 700.3
    extent = torch.rand(20, 2) * 180 + 8
    rois = torch.cat([torch.arange(20)[:, None] % 2, corner, corner + extent], 1)
    stock = SingleRoIExtractor(**OPTIONS)
    exact = stock(tuple(level.float() for level in levels), rois)
    features = Fp32RoIExtractor(**OPTIONS)(levels, rois)
    assert features.dtype == dtype
    assert torch.equal(features, exact.to(dtype))
    if dtype != torch.float32:  # what the stock extractor does to the RoIs
        rounded = stock(
            tuple(level.float() for level in levels), rois.to(dtype).float()
        )
        assert not torch.allclose(rounded, exact, atol=0.01)
