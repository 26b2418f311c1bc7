"""Write and read a trained model as one file that runs no code when opened.

A zip of ``torch.save`` with tensors and plain Python values only. ``config`` says of
which registered types the network and the test pipeline are built. A config builds what
its ``type`` fields name, and MMEngine looks far: a dotted name is imported, and so is a
bare one that no registry knows. Some registered types read files or load from the
network, ``init_cfg`` loads checkpoints, and ``mmcv.ops.batched_nms`` evaluates the
``type`` of its settings as Python. So a model in a file may name the registered parts
of the Mask R-CNN family, the steps that make an image ready, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import Registry
from torch import Tensor

from custom.errors import InputError
from custom.io.checkpoint import read_checkpoint, write_checkpoint

FORMAT = "mmcell-model"
VERSION = 1
_KEYS = {"config", "state_dict", "classes", "palette", "info"}
_REMEDY = "Make one of a run folder with tools/export.py"
_TRUST = "Use the run folder, if you trust where it comes from: its config is code"
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
_STEPS = (
    "LoadCellImage", "PackDetInputs", "Pad", "RandomDihedral", "RandomFlip",
    "RandomGrayscale", "Resize", "StainNormalize", "TestTimeAug",
)  # fmt: skip
# What loads weights or moves to another library's registry.
FORBIDDEN_KEYS = frozenset(
    {"_scope_", "checkpoint", "custom_imports", "init_cfg", "pretrained"}
)


@dataclass(frozen=True)
class ExportedModel:
    """Contents of an exported model file.

    Attributes:
        config: ``model`` and ``pipeline``, the network and its test pipeline, as in a
            config; ``tta_model`` and ``tta_views`` or ``tta_pipeline`` where the config
            has them. Tuples stay tuples. Thresholds are in ``model['test_cfg']``.
        state_dict: The weights, on the CPU.
        classes: Names of the classes.
        palette: Their RGB colours, 0 to 255.
        info: Where the model is from: names, numbers, versions.
    """

    config: dict[str, Any]
    state_dict: dict[str, Tensor]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    info: dict[str, Any]


def save_export(path: str | Path, model: ExportedModel) -> None:
    """Write an exported model atomically.

    Raises:
        InputError: The file cannot be written, or :func:`load_export` would refuse
            it.
    """
    data = {"format": FORMAT, "version": VERSION, **asdict(model)}
    _check(path, data)
    write_checkpoint(path, data)


def load_export(path: str | Path) -> ExportedModel:
    """Read an exported model; nothing is built yet.

    Raises:
        InputError: The file is missing, damaged, not an exported model, of another
            version, would run code, or names a type that is not allowed.
    """
    data = read_checkpoint(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(path, "it is not an exported model", _REMEDY)
    if data.get("version") != VERSION:
        raise InputError(
            path,
            f"it has version {data.get('version')!r} of the format, not {VERSION}",
            "Export the model again with this version of MMCell",
        )
    _check(path, data)
    return ExportedModel(**{key: data[key] for key in _KEYS})


def _check(path: str | Path, data: dict) -> None:
    """Raise :class:`InputError` if a part is missing or names what it may not."""
    if missing := _KEYS - data.keys():
        raise InputError(path, f"it lacks {min(missing)}", _REMEDY)
    config = data["config"]
    if not isinstance(config, dict) or not {"model", "pipeline"} <= config.keys():
        raise InputError(path, "its config lacks a model or a pipeline", _REMEDY)
    if not 0 < len(data["classes"]) == len(data["palette"]):
        raise InputError(path, "its classes lack names or colours", _REMEDY)
    check_types(path, config)


def check_types(source: str | Path, config: dict[str, Any]) -> None:
    """Refuse a config of an exported model that names other types than those allowed.

    The check imports and builds nothing.

    Args:
        source: What the error names.
        config: See :class:`ExportedModel`.

    Raises:
        InputError: The config names another type, has a setting that loads a file, or
            holds anything but plain values.
    """
    for name, node in _nodes(config, "config"):
        if not isinstance(node, dict):
            if not isinstance(node, str | int | float | list | tuple | None):
                kind = type(node).__name__
                raise InputError(source, f"{name} is of type {kind}", _REMEDY)
            continue
        if forbidden := FORBIDDEN_KEYS & node.keys():
            raise InputError(source, f"{name} has {min(forbidden)}", _TRUST)
        kind = node.get("type", "")
        steps = name.startswith(("config.pipeline", "config.tta_pipeline"))
        known = isinstance(kind, str) and (kind in _STEPS if steps else _is_part(kind))
        if "type" in node and not known:
            raise InputError(
                source,
                f"{name} is of type {kind!r}, which a model in a file may not use",
                _TRUST,
            )


def _nodes(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a value and everything in it, with their places as names."""
    yield name, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _nodes(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _nodes(inner, f"{name}[{i}]")


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
