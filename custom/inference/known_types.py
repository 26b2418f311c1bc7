"""The types that an exported model may name.

A config builds what its ``type`` fields name, and MMEngine looks far: a dotted name is
imported, and so is a bare one that no registry knows. Some registered types read files
or load from the network, ``init_cfg`` loads checkpoints, and ``mmcv.ops.batched_nms``
evaluates the ``type`` of its settings as Python. So an exported model may name the
registered parts of the Mask R-CNN family, the steps that make an image ready, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import Registry

from custom.errors import InputError

# Modules whose registered classes build from numbers and names alone, without reading
# files or the network (init_cfg aside).
_MODULES = (
    "custom.models.",
    "mmcv.cnn.bricks.",
    "mmdet.models.backbones.",
    "mmdet.models.data_preprocessors.",
    "mmdet.models.dense_heads.rpn_head",
    "mmdet.models.detectors.cascade_rcnn",
    "mmdet.models.detectors.htc",
    "mmdet.models.detectors.mask_rcnn",
    "mmdet.models.losses.",
    "mmdet.models.necks.",
    "mmdet.models.roi_heads.",
    "mmdet.models.task_modules.assigners.",
    "mmdet.models.task_modules.coders.",
    "mmdet.models.task_modules.prior_generators.",
    "mmdet.models.task_modules.samplers.",
    "torch.nn.modules.",
)
# Named by `type` as well, but not registered: functions and layers of mmcv.ops.
_OPERATIONS = frozenset({"nms", "soft_nms", "RoIAlign", "RoIPool"})
# Steps of a test pipeline.
STEPS = frozenset(
    {
        "LoadCellImage",
        "PackDetInputs",
        "Pad",
        "RandomDihedral",
        "RandomFlip",
        "RandomGrayscale",
        "Resize",
        "StainNormalize",
        "TestTimeAug",
    }
)
# What loads weights or moves to another library's registry.
FORBIDDEN_KEYS = frozenset(
    {"_scope_", "checkpoint", "custom_imports", "init_cfg", "pretrained"}
)
_REMEDY = "Use the run folder, if you trust where it comes from: its config is code"


def check_types(source: str | Path, config: dict[str, Any]) -> None:
    """Refuse an exported config that names other types than those allowed.

    The check imports and builds nothing.

    Args:
        source: What the error names.
        config: ``config`` of a :class:`custom.inference.export.ExportedModel`.

    Raises:
        InputError: It names another type, or has a setting that loads something.
    """
    for key, value in config.items():
        steps = key in ("pipeline", "tta_pipeline")
        for name, node in _dicts(value, key):
            if forbidden := FORBIDDEN_KEYS & node.keys():
                raise InputError(source, f"{name} has {min(forbidden)}", _REMEDY)
            if "type" not in node:
                continue
            kind = node["type"]
            known = isinstance(kind, str) and (
                kind in STEPS if steps else _is_part(kind)
            )
            if not known:
                raise InputError(
                    source,
                    f"{name} is of type {kind!r}, which a model in a file may not use",
                    _REMEDY,
                )


def _dicts(value: Any, name: str) -> Iterator[tuple[str, dict]]:
    if isinstance(value, dict):
        yield name, value
        for key, inner in value.items():
            yield from _dicts(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _dicts(inner, f"{name}[{i}]")


def _is_part(kind: str) -> bool:
    """Whether a registry knows the name, of a module that is allowed."""
    if kind in _OPERATIONS:
        return True
    registry: Registry | None
    for registry in (MODELS, TASK_UTILS):
        registry.import_from_location()  # the library's own modules
        while registry is not None:
            if kind in registry.module_dict:
                module = registry.module_dict[kind].__module__
                return f"{module}.".startswith(_MODULES)
            registry = registry.parent
    return False
