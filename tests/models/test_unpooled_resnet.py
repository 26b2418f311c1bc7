from __future__ import annotations

import torch
from mmdet.models.backbones import ResNet

from custom.models import UnpooledResNet


def test_features_begin_at_stride_2_with_resnets_weights():
    model = UnpooledResNet(depth=18)
    model.load_state_dict(ResNet(depth=18).state_dict())
    levels = model(torch.rand(1, 3, 64, 96))
    assert [x.shape[2:] for x in levels] == [(32, 48), (16, 24), (8, 12), (4, 6)]
