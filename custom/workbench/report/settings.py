"""The main settings of a config, and those in which configs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
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
# A page shows the split elsewhere; the others do not change the result.
_IGNORED = ("split", "data_root", "persistent_workers", "num_workers")


def describe(cfg: Config) -> list[tuple[str, str]]:
    """(name, text) of the settings that one asks for first."""
    model = cfg.model.get("detector", cfg.model)
    init_default_scope("mmdet")
    with torch.device("meta"):
        total, trainable = count_parameters(MODELS.build(deepcopy(model)))
    depth = model.backbone.get("depth")
    weights = (model.backbone.get("init_cfg") or {}).get("checkpoint", "random")
    optimizer = cfg.optim_wrapper.optimizer
    length = {k: cfg.train_cfg.get(f"max_{k}") for k in ("epochs", "iters")}
    return [
        ("model", f"{model.type}, {model.backbone.type}" + f"-{depth}" * bool(depth)),
        ("parameters", f"{total:,}, of which {trainable:,} trainable"),
        ("first weights", cfg.get("load_from") or weights),
        ("optimiser", f"{optimizer.type}, learning rate {optimizer.lr:g}"),
        ("length", " ".join(f"{n} {unit}" for unit, n in length.items() if n)),
        ("batch", f"{cfg.train_dataloader.batch_size} images per process"),
    ]


def differences(configs: Sequence[Config]) -> list[list[str]]:
    """A row for each setting in which configs differ: its name, its value in each."""
    flat = [_flatten({k: c[k] for k in _PARTS if k in c}) for c in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    values = {name: [settings.get(name, "-") for settings in flat] for name in names}
    differing = {name: v for name, v in values.items() if len(set(v)) > 1}
    # Below lists of different types equal numbers name different things.
    lists = tuple(f"{n}." for n in differing if f"{n}.0.type" in values)
    return [[name, *v] for name, v in differing.items() if not name.startswith(lists)]


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
