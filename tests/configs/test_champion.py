"""The champion, its ingredients, and the ablations that each have one of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from custom.engine.guards import count_parameters
from custom.structures import LabelMasks
from tests.configs.test_all_configs import CONFIGS, shrink

CELL = CONFIGS / "cell"
CHAMPION = CELL / "champion/cascade-mask-rcnn_convnextv2-b_fpn_36e.py"
TRAIN = "train_dataloader.dataset"
# What each ablation changes in the baseline.
CHANGES = {
    "anchors-32-512": {"model.rpn_head.anchor_generator.scales"},
    "anchors-8-192": {"model.rpn_head.anchor_generator.scales"},
    "anchors-square": {"model.rpn_head.anchor_generator.ratios"},
    "anchors-8-192-square": {
        "model.rpn_head.anchor_generator.scales",
        "model.rpn_head.anchor_generator.ratios",
    },
    "copy-paste": {TRAIN},
    "copy-paste-rare": {TRAIN},
    "dets-100": {"model.test_cfg.rcnn.max_per_img"},
    "dihedral": {f"{TRAIN}.pipeline"},
    "ema": {"custom_hooks"},
    "hed-jitter": {f"{TRAIN}.pipeline"},
    "no-negative-crops": {f"{TRAIN}.pipeline", f"{TRAIN}.filter_cfg"},
    "no-scale-jitter": {f"{TRAIN}.pipeline"},
    "repeat-factor": {TRAIN},
    "seesaw": {
        f"model.roi_head.bbox_head.loss_cls.{key}"
        for key in ("type", "use_sigmoid", "p", "q", "num_classes")
    },
    "stride-2": {
        "model.backbone.type",
        "model.rpn_head.anchor_generator.scales",
        "model.rpn_head.anchor_generator.strides",
        *(
            f"model.roi_head.{part}_roi_extractor.{key}"
            for part in ("bbox", "mask")
            for key in ("featmap_strides", "finest_scale")
        ),
    },
    "score-0.001": {"model.test_cfg.rcnn.score_thr"},
    "score-0.5": {"model.test_cfg.rcnn.score_thr"},
    "tiles": {"model.type", "model.tile_size", "model.overlap"},
}
RUN = (
    "model",
    "train_dataloader",
    "val_dataloader",
    "submission_dataloader",
    "custom_hooks",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
)


def differences(old, new, name: str = "") -> set[str]:
    """The names of the values in which two configs differ; a data set counts as one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return set() if old == new else {name}
    if name == TRAIN and old.type != new.type:
        return {name}
    return set().union(
        *(
            differences(old.get(k), new.get(k), f"{name}.{k}".lstrip("."))
            for k in {*old, *new}
        )
    )


@cache
def load(name: str) -> ConfigDict:
    """What decides how a config trains and predicts."""
    cfg = Config.fromfile(CELL / f"{name}.py")
    return ConfigDict({key: cfg[key] for key in RUN})


@pytest.mark.parametrize(
    "name",
    [
        path.stem.removeprefix("maskrcnn_r50_")
        for path in sorted((CELL / "ablations").glob("maskrcnn_r50_*.py"))
    ],
)
def test_an_ablation_changes_one_thing(name):
    changed = differences(load("maskrcnn_r50"), load(f"ablations/maskrcnn_r50_{name}"))
    assert changed == CHANGES[name]


def test_the_cascade_is_the_stock_one_but_for_cells():
    cascade = load("ablations/cascade-mask-rcnn_r50").model
    stock = get_config("mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py").model
    for head in stock.roi_head.bbox_head:
        head.num_classes = 4
    stock.roi_head.mask_head.update(num_classes=4, type="RoIFCNMaskHead")
    # Where it comes from is noted in it.
    assert differences(stock, cascade) - {"_scope_"} == {
        "rpn_head.anchor_generator.scales",
        "roi_head.bbox_roi_extractor.type",
        "roi_head.mask_roi_extractor.type",
        # Assignment of the same anchors and proposals, except in ignored regions.
        "train_cfg.rpn.assigner.type",
        "train_cfg.rpn.assigner.ignore_iof_thr",
        "train_cfg.rcnn",
        "test_cfg.rpn.nms_pre",
        "test_cfg.rpn.max_per_img",
        "test_cfg.rcnn.score_thr",
        "test_cfg.rcnn.max_per_img",
    }
    # The parts that are not the cascade's are those of the baseline.
    plain = load("maskrcnn_r50").model
    for part in ("backbone", "neck", "data_preprocessor", "test_cfg"):
        assert cascade[part] == plain[part]
    assert cascade.rpn_head.anchor_generator == plain.rpn_head.anchor_generator


def test_the_champion_has_every_ingredient():
    cfg, cascade = (
        load("champion/cascade-mask-rcnn_convnextv2-b_fpn_36e"),
        load("ablations/cascade-mask-rcnn_r50"),
    )
    mixed = cfg.train_dataloader.dataset.dataset
    cells = mixed.dataset
    assert [d.type for d in (mixed, cells)] == ["MultiImageMixDataset", "CellDataset"]
    assert [step.type for step in [*cells.pipeline, *mixed.pipeline]] == [
        "LoadCellImage",
        "LoadLabelMasks",
        "RandomScale",
        "RandomCrop",
        "FilterAnnotations",
        "RandomDihedral",
        "LabelCopyPaste",
        "FilterAnnotations",
        "RandomHEDJitter",
        "PackDetInputs",
    ]
    scale, crop = cells.pipeline[2:4]
    assert tuple(scale.factor_range) == (0.5, 2.0) and crop.allow_negative_crop
    weights = mixed.pipeline[0].class_weights
    assert min(weights[2:]) > max(weights[:2])
    assert cfg.custom_hooks[-1].type == "EMAHook"
    assert cfg.model.roi_head == cascade.model.roi_head
    tiles = load("champion/cascade-mask-rcnn_convnextv2-b_fpn_36e_tiles")
    assert differences(cfg, tiles) == CHANGES["tiles"]


def test_the_champion_is_within_the_courses_limit():
    cfg = Config.fromfile(CHAMPION)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        total, trainable = count_parameters(MODELS.build(cfg.model))
    assert total == trainable < 200_000_000
    # 88.6 million of the backbone, three box heads and three mask heads.
    assert trainable == 140_726_065


@pytest.mark.parametrize("path", [CELL / "maskrcnn_r50.py", CHAMPION])
def test_norms_biases_grn_and_layer_scale_have_no_decay(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {decay[id(p)] for p in trained if p.ndim == 1} == {0}
    assert {decay[id(p)] for p in trained if p.ndim > 1} == {0.05}
    rates = {group["lr"] for group in groups}
    assert len(rates) == (1 if path != CHAMPION else 14)


@pytest.fixture
def cascade(tiny_root, monkeypatch) -> Config:
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tiny_root.parent / "cache"))
    cfg = Config.fromfile(CELL / "ablations/cascade-mask-rcnn_r50.py")
    init_default_scope(cfg.default_scope)
    shrink(cfg)
    return cfg


def test_a_batch_without_cells_trains_the_cascade(cascade):
    dataset = DATASETS.build(cascade.train_dataloader.dataset)
    sample = dataset[0]
    gt = sample["data_samples"].gt_instances
    empty = gt[torch.zeros(len(gt), dtype=torch.bool)]
    assert isinstance(empty.masks, LabelMasks) and len(empty.masks) == 0
    sample["data_samples"].gt_instances = empty
    torch.manual_seed(0)
    model = MODELS.build(cascade.model).train()
    data = model.data_preprocessor(pseudo_collate([sample, sample]), training=True)
    total, parts = model.parse_losses(model(**data, mode="loss"))
    assert all(value.isfinite() for value in parts.values())
    # There is something to learn: background.
    assert parts["loss_rpn_cls"] > 0 and parts["s2.loss_cls"] > 0
    assert all(parts[f"s{i}.loss_mask"] == 0 for i in range(3))
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    # Every trained parameter takes part: distributed training waits for all of them.
    unused = {
        n for n, p in model.named_parameters() if p.requires_grad and p.grad is None
    }
    assert not unused


def test_crops_without_cells_come_and_can_be_left_out(tiny_root, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tiny_root.parent / "cache"))
    counts = {}
    for name in ("maskrcnn_r50", "ablations/maskrcnn_r50_no-negative-crops"):
        cfg = Config.fromfile(CELL / f"{name}.py")
        init_default_scope(cfg.default_scope)
        for step in cfg.train_dataloader.dataset.pipeline:
            if step.type == "RandomCrop":
                step.crop_size = (6, 6)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        np.random.seed(0)
        counts[name] = [
            len(dataset[i % len(dataset)]["data_samples"].gt_instances)
            for i in range(40)
        ]
    with_empty, without = counts.values()
    assert 0 in with_empty and max(with_empty) > 0
    assert 0 not in without
