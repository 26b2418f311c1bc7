"""Weights under the names and in the shapes that torchvision and detectron2 publish."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

from custom.errors import InputError
from custom.models.weight_names import read_weights, rename_detector
from custom.models.weights import prepare_weights

REPRODUCTIONS = Path(__file__).resolve().parents[2] / "configs/reproductions"
CONVNEXT, LIGHT, DC5, NUCLEI = (
    REPRODUCTIONS / name
    for name in (
        "torchvision-convnext/mask-rcnn_r50_fpn_20e_coco-pretrained.py",
        "torchvision-light/mask-rcnn-v2_r50_fpn_50e.py",
        "detectron2-dc5/mask-rcnn_r50-dc5_225e_coco-pretrained.py",
        "detectron2-nuclei",
    )
)
# Layers that depend on the number of classes; the deconvolution of a mask head does
# not, but torchvision's users make it anew with the rest of the predictor.
CLASSES = ("fc_cls", "fc_reg", "conv_logits")
STATS = ("weight", "bias", "running_mean", "running_var")


def norm(name: str, channels: int) -> dict[str, tuple]:
    return {f"{name}.{kind}": (channels,) for kind in STATS}


def layer(name: str, *shape: int) -> dict[str, tuple]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def stage(name, number: int, blocks: int, d2: bool, width: int = 64) -> dict:
    """One stage of a ResNet with bottlenecks; torchvision's names or detectron2's."""
    mid, out, shapes = width << number, 4 * width << number, {}
    for block in range(blocks):
        first = width if number == 0 else 2 * width << number
        inputs = out if block else first
        convs = [(mid, inputs, 1, 1), (mid, mid, 3, 3), (out, mid, 1, 1)]
        names = [(f"conv{i}", f"conv{i}.norm" if d2 else f"bn{i}") for i in (1, 2, 3)]
        if block == 0:
            convs.append((out, inputs, 1, 1))
            short = (
                ("shortcut", "shortcut.norm")
                if d2
                else ("downsample.0", "downsample.1")
            )
            names.append(short)
        for (conv, bn), shape in zip(names, convs, strict=True):
            shapes[f"{name}.{block}.{conv}.weight"] = shape
            shapes |= norm(f"{name}.{block}.{bn}", shape[0])
    return shapes


def torchvision(v2: bool, width: int = 64, fc: int = 1024) -> dict:
    """``maskrcnn_resnet50_fpn`` (a file from before 0.13) and ``_v2``, 91 classes."""
    body, fpn = "backbone.body", "backbone.fpn"
    shapes = {f"{body}.conv1.weight": (width, 3, 7, 7)} | norm(f"{body}.bn1", width)
    for i, blocks in enumerate((3, 4, 6, 3)):
        shapes |= stage(f"{body}.layer{i + 1}", i, blocks, False, width)
    conv = [f"{fpn}.{kind}_blocks.{i}" for kind in ("inner", "layer") for i in range(4)]
    sides = [(256, 4 * width << i, 1, 1) for i in range(4)] + [(256, 256, 3, 3)] * 12
    if v2:
        heads = [f"roi_heads.{h}_head.{i}" for h in ("mask", "box") for i in range(4)]
        for name, shape in zip(conv + heads, sides, strict=True):
            shapes |= {f"{name}.0.weight": shape} | norm(f"{name}.1", 256)
            shapes[f"{name}.1.num_batches_tracked"] = ()
        shapes |= layer("roi_heads.box_head.5", fc, 256 * 49)
    else:
        masks = [f"roi_heads.mask_head.mask_fcn{i}" for i in (1, 2, 3, 4)]
        for name, shape in zip(conv + masks, sides[:12], strict=True):
            shapes |= layer(name, *shape)
        shapes |= layer("roi_heads.box_head.fc6", fc, 256 * 49)
        shapes |= layer("roi_heads.box_head.fc7", fc, fc)
    for name in ["conv.0.0", "conv.1.0"] if v2 else ["conv"]:
        shapes |= layer(f"rpn.head.{name}", 256, 256, 3, 3)
    shapes |= layer("rpn.head.cls_logits", 3, 256, 1, 1)
    shapes |= layer("rpn.head.bbox_pred", 12, 256, 1, 1)
    shapes |= layer("roi_heads.box_predictor.cls_score", 91, fc)
    shapes |= layer("roi_heads.box_predictor.bbox_pred", 364, fc)
    shapes |= layer("roi_heads.mask_predictor.conv5_mask", 256, 256, 2, 2)
    return shapes | layer("roi_heads.mask_predictor.mask_fcn_logits", 91, 256, 1, 1)


def detectron2(kind: str, depth: int = 50, width: int = 64, fc: int = 1024) -> dict:
    """mask_rcnn_R_50 or 101, ``C4``, ``DC5`` or ``FPN``, 80 classes."""
    body = "backbone.bottom_up" if kind == "FPN" else "backbone"
    shapes = {f"{body}.stem.conv1.weight": (width, 3, 7, 7)}
    shapes |= norm(f"{body}.stem.conv1.norm", width)
    for i, blocks in enumerate((3, 4, 6 if depth == 50 else 23, 3)):
        name = "roi_heads.res5" if kind == "C4" and i == 3 else f"{body}.res{i + 2}"
        shapes |= stage(name, i, blocks, True, width)
    channels = {"C4": 1024, "DC5": 2048, "FPN": 256}[kind]
    anchors = 3 if kind == "FPN" else 15
    rpn = "proposal_generator.rpn_head"
    shapes |= layer(f"{rpn}.conv", channels, channels, 3, 3)
    shapes |= layer(f"{rpn}.objectness_logits", anchors, channels, 1, 1)
    shapes |= layer(f"{rpn}.anchor_deltas", 4 * anchors, channels, 1, 1)
    shapes["proposal_generator.anchor_generator.cell_anchors.0"] = (15, 4)
    head = "roi_heads.mask_head"
    if kind == "FPN":
        for i in range(4):
            shapes |= layer(f"backbone.fpn_lateral{i + 2}", 256, 4 * width << i, 1, 1)
            shapes |= layer(f"backbone.fpn_output{i + 2}", 256, 256, 3, 3)
    if kind != "C4":
        shapes |= layer("roi_heads.box_head.fc1", fc, channels * 49)
        shapes |= layer("roi_heads.box_head.fc2", fc, fc)
        for i in range(4):
            shapes |= layer(
                f"{head}.mask_fcn{i + 1}", 256, 256 if i else channels, 3, 3
            )
    shapes[f"{head}.deconv.weight"] = (2048 if kind == "C4" else 256, 256, 2, 2)
    shapes[f"{head}.deconv.bias"] = (256,)
    shapes |= layer(f"{head}.predictor", 80, 256, 1, 1)
    features = 2048 if kind == "C4" else fc
    shapes |= layer("roi_heads.box_predictor.cls_score", 81, features)
    return shapes | layer("roi_heads.box_predictor.bbox_pred", 320, features)


def fill(shapes: dict, device: str = "meta") -> dict[str, torch.Tensor]:
    return {k: torch.full(s, 0.5, device=device) for k, s in shapes.items()}


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    init_default_scope("mmdet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("config", "published", "anew"),
    [
        (CONVNEXT, torchvision(v2=False), ("upsample",)),
        (LIGHT, torchvision(v2=True), ("upsample",)),
        (DC5, detectron2("DC5"), ()),
        (NUCLEI / "mask-rcnn_r50-c4_2400i.py", detectron2("C4"), ()),
        (NUCLEI / "mask-rcnn_r101-c4_2400i.py", detectron2("C4", 101), ()),
        # Each level has all five sizes of anchors, of which COCO's has one.
        (
            NUCLEI / "mask-rcnn_r50_fpn_2400i.py",
            detectron2("FPN"),
            ("rpn_cls", "rpn_reg"),
        ),
    ],
    ids=["torchvision", "v2", "dc5", "c4", "r101-c4", "fpn"],
)
def test_every_published_weight_but_the_predictors_gets_its_place(
    config, published, anew
):
    with torch.device("meta"):
        model = MODELS.build(Config.fromfile(config).model).state_dict()
    renamed = rename_detector(fill(published))
    other = (*CLASSES, *anew)
    wanted = {k: v.shape for k, v in model.items() if not any(n in k for n in other)}
    placed = {k: v.shape for k, v in renamed.items() if not any(n in k for n in other)}
    if not any("num_batches" in key for key in placed):  # frozen norms do not count
        wanted = {k: v for k, v in wanted.items() if "num_batches" not in k}
    elif config == LIGHT:  # torchvision's body counts, too, in the published file
        wanted = {
            k: v
            for k, v in wanted.items()
            if "num_batches" not in k or not k.startswith("backbone.")
        }
    assert placed == wanted


def test_the_anchors_of_a_place_come_in_detectron2s_order():
    """Weights of objectness belong to anchors by their order: sizes, then ratios."""
    cfg = Config.fromfile(NUCLEI / "mask-rcnn_r50-c4_2400i.py").model.rpn_head
    (boxes,) = TASK_UTILS.build(cfg.anchor_generator).base_anchors
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    sizes = (width * height).sqrt().round().tolist()
    assert sizes == [s for s in (8, 16, 32, 64, 128) for _ in range(3)]
    assert (height / width).tolist() == pytest.approx([0.5, 1, 2] * 5)


def test_an_unknown_name_is_refused_with_a_remedy():
    for published in (torchvision(v2=False), detectron2("C4")):
        state = fill({**published, "rpn.head.new": (1,)})
        with pytest.raises(InputError, match="has no such weight") as error:
            rename_detector(state)
        assert error.value.source == "rpn.head.new"
        assert "reproductions" in error.value.remedy


def write_pickle(path: Path, shapes: dict) -> None:
    arrays = {k: np.full(s, 0.5, np.float32) for k, s in shapes.items()}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("config", [LIGHT, NUCLEI / "mask-rcnn_r50_fpn_2400i.py"])
def test_training_starts_from_the_file_of_another_library(config, tmp_path):
    cfg = Config.fromfile(config)
    cfg.model.backbone.update(base_channels=4)
    cfg.model.neck.in_channels = [16, 32, 64, 128]
    cfg.model.roi_head.bbox_head.fc_out_channels = 8
    path = tmp_path / Path(cfg.load_from).name
    if config == LIGHT:
        torch.save(fill(torchvision(v2=True, width=4, fc=8), "cpu"), path)
    else:
        write_pickle(path, detectron2("FPN", width=4, fc=8))
    prepare_weights(cfg)
    assert cfg.load_from == str(path)
    # What MMEngine's runner and MMDetection's own tools load.
    state = CheckpointLoader.load_checkpoint(cfg.load_from, "cpu", None)
    model = MODELS.build(cfg.model)
    if config != LIGHT:  # other anchors
        state = {k: v for k, v in state.items() if not k.startswith("rpn_head.rpn_")}
    _, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert (model.backbone.conv1.weight == 0.5).all()


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_that_is_more_than_arrays_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "model_final_123456.pkl", tmp_path / "marker"
    for content in (
        pickle.dumps({"model": {"a": Evil(marker)}}),
        pickle.dumps({"a": 1}),
        b"<html>",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="does not hold named arrays") as error:
            read_weights(path)
        assert "Download it again" in error.value.remedy
    assert not marker.exists()
