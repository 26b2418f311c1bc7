from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from custom.errors import InputError
from custom.models.backbones import ConvNeXt
from custom.models.backbones.convnext import GRN
from custom.models.weights import prepare_weights

SMALL = {"depths": (2, 2, 4, 2), "channels": (8, 16, 24, 32)}


def torchvision_names(model: ConvNeXt) -> dict[str, torch.Tensor]:
    """A state dict as torchvision saves the same model, from its list of modules."""
    own, state = model.state_dict(), {}
    block = {
        "depthwise_conv": "block.0",
        "norm": "block.2",
        "pointwise_conv1": "block.3",
        "pointwise_conv2": "block.5",
    }
    for name, value in own.items():
        part, stage, *rest = name.split(".")
        if part == "downsample_layers":
            state[f"features.{2 * int(stage)}.{'.'.join(rest)}"] = value
        elif part == "stages":
            number, kind, *rest = rest
            place = f"features.{2 * int(stage) + 1}.{number}"
            if kind == "gamma":
                state[f"{place}.layer_scale"] = value[:, None, None]
            else:
                state[f"{place}.{block[kind]}.{'.'.join(rest)}"] = value
    state["classifier.0.weight"] = state["classifier.2.weight"] = torch.ones(3)
    return state


@pytest.mark.parametrize("use_grn", [False, True])
def test_outputs(use_grn):
    model = ConvNeXt(**SMALL, use_grn=use_grn)
    outputs = model(torch.rand(2, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [
        (2, 8, 16, 24),
        (2, 16, 8, 12),
        (2, 24, 4, 6),
        (2, 32, 2, 3),
    ]
    # Layer norm over the channels, still at its initial weights.
    assert outputs[3].mean(1).abs().max() < 1e-5
    sum(o.square().sum() for o in outputs).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.bfloat16),
        ("cpu", torch.float16),
        pytest.param("cuda", torch.float16, marks=pytest.mark.gpu),
    ],
)
def test_large_activations_stay_finite_in_half_precision(device, dtype):
    """What FPN gets has the scale of a layer norm, however large the stages are."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    torch.manual_seed(0)
    model = ConvNeXt(**SMALL, use_grn=True).to(device)
    for name, parameter in model.named_parameters():
        if "grn" in name:
            torch.nn.init.normal_(parameter, std=5)
        elif name.endswith("pointwise_conv2.bias"):
            torch.nn.init.uniform_(parameter, 3_000, 9_000)
    image = torch.rand(1, 3, 64, 64, device=device)
    raw = []
    for stage in model.stages:
        stage.register_forward_hook(lambda *args: raw.append(args[-1].detach()))
    lateral = torch.nn.Conv2d(32, 8, 1).to(device)
    torch.nn.init.constant_(lateral.weight, 0.2)
    with torch.autocast(device, dtype):
        outputs = model(image)
        assert lateral(outputs[3]).isfinite().all()
        # Without the norm a lateral convolution of FPN would leave FP16's range.
        spoilt = not lateral(raw[3]).isfinite().all()
    assert spoilt == (dtype == torch.float16)
    for number, output in enumerate(outputs):
        assert raw[number].abs().max() > 5_000 and raw[number].isfinite().all()
        assert isinstance(getattr(model, f"norm{number}"), torch.nn.LayerNorm)
        assert output.float().abs().max() < 10
    sum(o.float().square().sum() for o in outputs).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_base_has_the_size_of_the_paper():
    with torch.device("meta"):
        count = sum(p.numel() for p in ConvNeXt().parameters())
    # 88.59 million with the classifier of 1,024 x 1,000 + 1,000 and its norm.
    assert count - 2 * (128 + 256 + 512) + 1_025_000 == 88_591_464


def test_grn_is_the_papers_listing():
    torch.manual_seed(0)
    x, layer = torch.randn(2, 4, 5, 6), GRN(6)
    torch.nn.init.normal_(layer.gamma)
    torch.nn.init.normal_(layer.beta)
    energy = torch.sqrt((x**2).sum(1, keepdim=True).sum(2, keepdim=True))
    share = energy / energy.mean(3, keepdim=True)
    torch.testing.assert_close(
        layer(x), layer.gamma * (x * share) + layer.beta + x, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("frozen", [0, 3, 5])
def test_frozen_layers_are_counted_as_torchvision_counts(frozen):
    model = ConvNeXt(**SMALL, frozen_layers=frozen, drop_path_rate=0.9).train()
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    # torchvision's features: the stem, a stage, a downsampling, a stage, ...
    for place in range(8):
        kind = "stages" if place % 2 else "downsample_layers"
        weights = {
            k
            for k, _ in model.named_parameters()
            if k.startswith(f"{kind}.{place // 2}.")
        }
        assert weights and weights & trained == (weights if place >= frozen else set())
    # No path is dropped where nothing learns.
    assert model.stages[0].training == (frozen < 2) and model.stages[3].training


def test_torchvision_weights_load_and_others_are_refused(tmp_path):
    torch.manual_seed(0)
    saved, path = ConvNeXt(**SMALL), tmp_path / "convnext.pth"
    for parameter in saved.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(torchvision_names(saved), path)
    init = {"type": "Pretrained", "checkpoint": str(path)}
    cfg = Config({"model": {"type": "ConvNeXt", **SMALL, "init_cfg": init}})
    prepare_weights(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    own = model.state_dict()
    for name, value in saved.state_dict().items():
        assert torch.equal(own[name], value) or name.startswith("norm")

    cfg.model.channels = (12, 16, 24, 32)
    with pytest.raises(InputError, match="weights of ConvNeXt are in it"):
        prepare_weights(cfg)


def test_mmpretrain_weights_load_with_their_prefix(tmp_path):
    saved, path = ConvNeXt(**SMALL, use_grn=True), tmp_path / "convnextv2.pth"
    state = {f"backbone.{k}": v + 1 for k, v in saved.state_dict().items()}
    torch.save({"state_dict": {**state, "head.fc.bias": torch.ones(1)}}, path)
    init = {"type": "Pretrained", "checkpoint": str(path), "prefix": "backbone."}
    model = {"type": "ConvNeXt", **SMALL, "use_grn": True, "init_cfg": init}
    cfg = Config({"model": model})
    prepare_weights(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved.state_dict()[name] + 1)


def test_equals_torchvision():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    other = torchvision.models.convnext_tiny().eval()
    for name, parameter in other.named_parameters():
        if "layer_scale" in name:
            torch.nn.init.uniform_(parameter)
    model = ConvNeXt((3, 3, 9, 3), (96, 192, 384, 768)).eval()
    model.load_state_dict(other.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = model.norm3(other.features(image))
        torch.testing.assert_close(model(image)[3], wanted)
