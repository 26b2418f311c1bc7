from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.models.torchvision_weights import rename_mask_rcnn_v2, with_own_names
from custom.models.weights import prepare_weights

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
FILE = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
NEW = ("fc_cls", "fc_reg", "upsample", "conv_logits")  # made anew for other classes


@pytest.fixture(scope="module")
def cfg(repo) -> Config:
    init_default_scope("mmdet")
    path = "configs/reproductions/torchvision-light/mask-rcnn-v2_r50_fpn_50e.py"
    return Config.fromfile(repo / path)


@pytest.fixture(scope="module")
def model(cfg):
    return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def torchvision_state(model) -> dict[str, torch.Tensor]:
    """What torchvision 0.28 saves, written down from its modules."""
    names = [
        (name, f"backbone.body.{name.removeprefix('backbone.')}")
        for name in model.state_dict()
        if name.startswith("backbone.")
    ]
    blocks = [("neck.lateral_convs", "backbone.fpn.inner_blocks")]
    blocks += [("neck.fpn_convs", "backbone.fpn.layer_blocks")]
    blocks += [("roi_head.bbox_head.shared_convs", "roi_heads.box_head")]
    blocks += [("roi_head.mask_head.convs", "roi_heads.mask_head")]
    for own, other in blocks:
        for i in range(4):
            names.append((f"{own}.{i}.conv.weight", f"{other}.{i}.0.weight"))
            names += [(f"{own}.{i}.bn.{k}", f"{other}.{i}.1.{k}") for k in NORM]
    for kind in ("weight", "bias"):
        names += [
            ("rpn_head.rpn_conv.0.conv." + kind, "rpn.head.conv.0.0." + kind),
            ("rpn_head.rpn_conv.1.conv." + kind, "rpn.head.conv.1.0." + kind),
            ("rpn_head.rpn_cls." + kind, "rpn.head.cls_logits." + kind),
            ("rpn_head.rpn_reg." + kind, "rpn.head.bbox_pred." + kind),
            ("roi_head.bbox_head.shared_fcs.0." + kind, "roi_heads.box_head.5." + kind),
        ]
    weights = model.state_dict()
    state = {other: weights[own] for own, other in names}
    for kind in ("cls_score", "bbox_pred"):
        state[f"roi_heads.box_predictor.{kind}.weight"] = torch.zeros(91, 1024)
    state["roi_heads.mask_predictor.mask_fcn_logits.bias"] = torch.zeros(91)
    return state


def test_every_weight_but_the_predictors_gets_its_name(model, torchvision_state):
    renamed = rename_mask_rcnn_v2(torchvision_state)
    own = model.state_dict()
    wanted = {k for k in own if not any(word in k for word in NEW)}
    assert set(renamed) == wanted
    assert all(renamed[k] is torchvision_state[t] for k, t in _pairs(torchvision_state))
    assert all(torch.equal(renamed[k], own[k]) for k in wanted)


def _pairs(state):
    yield "backbone.conv1.weight", "backbone.body.conv1.weight"
    yield "neck.fpn_convs.3.bn.bias", "backbone.fpn.layer_blocks.3.1.bias"


def test_gray_stem_gives_what_three_equal_channels_give(torchvision_state):
    gray = rename_mask_rcnn_v2(torchvision_state, in_channels=1)
    image = torch.rand(1, 1, 32, 32)
    stem = torchvision_state["backbone.body.conv1.weight"]
    torch.testing.assert_close(
        torch.conv2d(image, gray["backbone.conv1.weight"]),
        torch.conv2d(image.expand(1, 3, 32, 32), stem),
    )


def test_an_unknown_name_is_no_silent_loss(torchvision_state):
    with pytest.raises(KeyError, match=r"rpn\.head\.new is no weight"):
        rename_mask_rcnn_v2({**torchvision_state, "rpn.head.new": torch.zeros(1)})


@pytest.mark.parametrize("channels", [1, 3])
def test_training_starts_from_the_file(
    channels, cfg, torchvision_state, tmp_path, monkeypatch
):
    weights, home = tmp_path / "weights", tmp_path / "home"
    weights.mkdir()
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(weights))
    monkeypatch.setenv("TORCH_HOME", str(home))
    torch.save(torchvision_state, weights / FILE)
    cfg = cfg.copy()
    cfg.model.backbone.in_channels = channels
    prepare_weights(cfg)
    own = torch.load(cfg.load_from, weights_only=True)
    assert own["backbone.conv1.weight"].shape[1] == channels
    _, unexpected = MODELS.build(cfg.model).load_state_dict(own, strict=False)
    assert not unexpected
    assert [p.name for p in home.rglob("*") if p.is_file()] == [
        f"{FILE.removesuffix('.pth')}_mmdet-{channels}ch.pth"
    ]


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth"
    assert with_own_names(path, 3) == path
