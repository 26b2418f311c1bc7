"""Describe a config in words, and name the settings in which configs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from custom.engine.guards import count_parameters

# The parts of a config that decide the result; others repeat them or name folders.
_PARTS = (
    "model",
    "load_from",
    "train_dataloader",
    "val_dataloader",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
    "randomness",
)
# Beginnings of names that say nothing in a table.
_SHORTER = (
    ("train_dataloader.dataset.pipeline", "pipeline"),
    ("optim_wrapper.optimizer.", "optimizer."),
    ("model.", ""),
)
# A page shows the split elsewhere; the others do not change the result.
_IGNORED = ("split", "data_root", "persistent_workers", "num_workers")


def describe(cfg: Config) -> list[tuple[str, str]]:
    """(name, text) of the settings that decide the result."""
    facts = []
    model = cfg.model.get("detector", cfg.model)
    if "roi_head" in model:
        facts += [
            ("backbone", backbone(model.backbone)),
            ("neck", neck(model.get("neck"))),
            ("heads", heads(model)),
            ("anchors", anchors(model.rpn_head.anchor_generator)),
        ]
    init_default_scope("mmdet")
    with torch.device("meta"):
        total, trainable = count_parameters(MODELS.build(deepcopy(model)))
    weights = (model.backbone.get("init_cfg") or {}).get("checkpoint", "random")
    return [
        *facts,
        ("parameters", f"{total:,}, of which {trainable:,} trainable"),
        ("optimiser", optimiser(cfg.optim_wrapper)),
        ("schedule", schedule(cfg)),
        ("batch", f"{cfg.train_dataloader.batch_size} images per process"),
        ("first weights", cfg.get("load_from") or weights),
    ]


def differences(configs: Sequence[Config]) -> list[list[str]]:
    """A row for each setting in which configs differ: its name, its value in each."""
    flat = [_flatten({k: c[k] for k in _PARTS if k in c}) for c in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    values = {name: [settings.get(name, "-") for settings in flat] for name in names}
    differing = {name: v for name, v in values.items() if len(set(v)) > 1}
    # Below lists of different types equal numbers name different things.
    lists = tuple(f"{n}." for n in differing if f"{n}.0.type" in values)
    return [
        [_shorten(name), *v]
        for name, v in differing.items()
        if not name.startswith(lists)
    ]


def _flatten(node, name: str = "") -> dict[str, str]:
    """Every setting of a config by its dotted name.

    A list of transforms or hooks also has its types in one line, so that a different
    length shows as one difference.
    """
    if isinstance(node, dict):
        items = [(str(k), v) for k, v in node.items() if k not in _IGNORED]
    elif isinstance(node, (list, tuple)) and any(isinstance(v, dict) for v in node):
        items = [(str(i), v) for i, v in enumerate(node)]
    else:
        return {name: json.dumps(node, default=str).strip('"')}
    settings = {}
    if not isinstance(node, dict):
        types = [str(v.get("type")) for v in node if isinstance(v, dict)]
        settings[name] = ", ".join(types)
    for key, value in items:
        settings.update(_flatten(value, f"{name}.{key}" if name else key))
    return settings


def _shorten(name: str) -> str:
    for long, short in _SHORTER:
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def number(value: float) -> str:
    """A number as a config would have it: 1e-4, 0.005, 4."""
    return f"{value:g}".replace("e-0", "e-")


def backbone(cfg: ConfigDict) -> str:
    """Type, depth, width and what is frozen."""
    depth = {18: "-18", 34: "-34", 50: "-50", 101: "-101", 152: "-152"}
    name = cfg.type + depth.get(cfg.get("depth"), "")
    if cfg.type == "ConvNeXt" and "channels" not in cfg:
        name += "-B"
    elif cfg.type == "EfficientNetV2" and "stages" not in cfg:
        name += "-M"
    if "groups" in cfg:
        name += f" {cfg.groups}x{cfg.base_width}d"
    if cfg.get("use_grn"):
        name += " V2"
    if cfg.get("style") == "caffe":
        name += " (caffe)"
    stages = len(cfg.get("out_indices", ()))
    if 2 in cfg.get("dilations", ()):
        name += ", dilated C5"
    elif stages == 1:
        name += f", C{cfg.num_stages + 1}"
    if cfg.get("in_channels", 3) == 1:
        name += ", gray"
    frozen = cfg.get("frozen_stages", -1)
    if frozen >= 0:
        name += ", stem frozen" if frozen == 0 else f", {frozen} frozen"
    return name


def neck(cfg: ConfigDict | None) -> str:
    """Type, channels, levels."""
    if cfg is None:
        return "-"
    norm = f", {cfg.norm_cfg.type}" if cfg.get("norm_cfg") else ""
    return f"{cfg.type} {cfg.out_channels}, {cfg.num_outs} levels{norm}"


def heads(model: ConfigDict) -> str:
    """RPN, box head and mask head; of a cascade the first of each."""
    roi = model.roi_head
    boxes, masks, extractors = (
        value if isinstance(value, (list, tuple)) else [value]
        for value in (roi.bbox_head, roi.mask_head, roi.bbox_roi_extractor)
    )
    box = boxes[0].type.removesuffix("BBoxHead") or "linear"
    box = f"C5 + {box}" if roi.get("shared_head") else box
    stages = f"{len(boxes)}x " if len(boxes) > 1 else ""
    levels = len(extractors[0].featmap_strides)
    parts = [
        f"RPN {model.rpn_head.get('num_convs', 1)} conv",
        f"box {stages}{box} from {levels} level{'s' if levels > 1 else ''}",
        f"mask {masks[0].get('num_convs', 4)} conv",
    ]
    if any("norm_cfg" in head for head in (boxes[0], masks[0])):
        parts.append("BN")
    return ", ".join(parts)


def anchors(cfg: ConfigDict) -> str:
    """Sides of the square anchors, the numbers of sizes and of ratios."""
    sides = sorted(scale * stride for stride in cfg.strides for scale in cfg.scales)
    parts = [f"{number(sides[0])}...{number(sides[-1])}"]
    if len(cfg.scales) > 1:
        parts.append(f"{len(cfg.scales)} sizes")
    parts.append(f"{len(cfg.ratios)} ratio{'s' if len(cfg.ratios) > 1 else ''}")
    return ", ".join(parts)


def optimiser(wrapper: ConfigDict) -> str:
    """Type, rate, weight decay and clipping."""
    cfg = wrapper.optimizer
    text = f"{cfg.type} {number(cfg.lr)}, decay {number(cfg.get('weight_decay', 0))}"
    if wrapper.get("clip_grad"):
        text += f", clip {number(wrapper.clip_grad.max_norm)}"
    return text


def schedule(cfg: Config) -> str:
    """Length, and the schedulers in their order."""
    loop = cfg.train_cfg
    length = (
        f"{loop.max_epochs} epochs"
        if "max_epochs" in loop
        else f"{loop.max_iters} iters"
    )
    names = {
        "LinearLR": "warm-up",
        "CosineAnnealingLR": "cosine",
        "MultiStepLR": "steps",
        "StepLR": "steps",
    }
    kinds = [names.get(s.type, s.type) for s in cfg.param_scheduler or []]
    stops = any(hook.type == "EarlyStoppingHook" for hook in cfg.custom_hooks)
    return ", ".join([length, *(kinds or ["constant"]), *(["early stop"] * stops)])
