from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from custom.models.backbones import EfficientNetV2
from custom.models.weights import prepare_weights

SMALL = {
    "stages": ((True, 1, 1, 8, 1), (True, 4, 2, 12, 2), (False, 4, 2, 16, 2)),
    "out_indices": (2, 3),
}


def test_outputs():
    model = EfficientNetV2(**SMALL)
    outputs = model(torch.rand(2, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [(2, 12, 16, 24), (2, 16, 8, 12)]
    sum(o.square().sum() for o in outputs).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_m_has_torchvisions_size_and_names():
    with torch.device("meta"):
        model = EfficientNetV2()
    # torchvision: 54,139,356 with the last convolution and the classifier.
    last = 512 * 1280 + 2 * 1280 + 1_281_000
    assert sum(p.numel() for p in model.parameters()) + last == 54_139_356
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes["features.0.1.running_var"] == (24,)
    assert shapes["features.1.2.block.0.0.weight"] == (24, 24, 3, 3)
    assert shapes["features.3.4.block.1.0.weight"] == (80, 320, 1, 1)
    assert shapes["features.4.0.block.2.fc1.weight"] == (20, 320, 1, 1)
    assert shapes["features.7.4.block.3.1.bias"] == (512,)


def test_frozen_stages_keep_their_statistics():
    model = EfficientNetV2(**SMALL, frozen_stages=1).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(torch.rand(2, 3, 32, 32))
    moved = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert moved and all(k.startswith(("features.2", "features.3")) for k in moved)
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    assert not any(k.startswith(("features.0", "features.1")) for k in trained)


def test_torchvision_weights_load(tmp_path):
    saved, path = EfficientNetV2(**SMALL), tmp_path / "efficientnet.pth"
    state = {k: v + 1 for k, v in saved.state_dict().items()}
    torch.save({**state, "classifier.1.bias": torch.ones(1)}, path)
    init = {"type": "Pretrained", "checkpoint": str(path)}
    cfg = Config({"model": {"type": "EfficientNetV2", **SMALL, "init_cfg": init}})
    prepare_weights(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_equals_torchvision():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    other = torchvision.models.efficientnet_v2_m().eval()
    model = EfficientNetV2().eval()
    model.load_state_dict(other.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image)[3], other.features[:8](image))
