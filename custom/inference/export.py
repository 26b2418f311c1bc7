"""Write and read a trained model as one file that runs no code when opened.

A zip of ``torch.save`` with tensors and plain Python values only. ``config`` says of
which registered types the network and the test pipeline are built;
:func:`custom.inference.known_types.check_types` says which of them are allowed, and is
to be asked before anything is built from a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from custom.errors import InputError
from custom.io.checkpoint import read_checkpoint, write_checkpoint

FORMAT = "mmcell-model"
VERSION = 1
_KEYS = {"config", "state_dict", "classes", "palette", "info"}
_REMEDY = "Make one of a run folder with tools/export.py"


@dataclass(frozen=True)
class ExportedModel:
    """What an exported file holds.

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
        InputError: It cannot be written, or holds what is not plain (see
            :func:`load_export`).
    """
    data = {"format": FORMAT, "version": VERSION, **asdict(model)}
    _check(path, data)
    write_checkpoint(path, data)


def load_export(path: str | Path) -> ExportedModel:
    """Read an exported model.

    Nothing is built from it here: see the module's docstring.

    Raises:
        InputError: The file is missing, damaged, not an exported model, of a later
            version, would run code, or holds anything but plain values and tensors.
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
    """Refuse what is missing, of another type than it should be, or not plain.

    Raises:
        InputError: One of these conditions holds.
    """
    if missing := _KEYS - data.keys():
        raise InputError(path, f"it lacks {min(missing)}", _REMEDY)
    config, classes, palette = data["config"], data["classes"], data["palette"]
    if not isinstance(config, dict) or not {"model", "pipeline"} <= config.keys():
        raise InputError(path, "its config lacks a model or a pipeline", _REMEDY)
    for key in ("config", "info"):
        check_plain(path, data[key], key)
    colours = isinstance(palette, tuple) and all(
        isinstance(c, tuple)
        and len(c) == 3
        and all(type(v) is int and 0 <= v <= 255 for v in c)
        for c in palette
    )
    names = isinstance(classes, tuple) and all(isinstance(c, str) for c in classes)
    if not (names and colours and 0 < len(classes) == len(palette)):
        raise InputError(path, "its classes lack names or colours", _REMEDY)
    weights = data["state_dict"]
    if not isinstance(weights, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        raise InputError(path, "its weights are not named tensors", _REMEDY)


def check_plain(source: str | Path, value: Any, name: str) -> None:
    """Refuse anything but dicts, lists, tuples, strings, numbers, booleans and None.

    Args:
        source: What the error names.
        value: Checked recursively.
        name: What the error calls it.

    Raises:
        InputError: Something else is in it.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(source, f"{name} has the key {key!r}", _REMEDY)
            check_plain(source, inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_plain(source, inner, f"{name}[{i}]")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise InputError(
            source,
            f"{name} is of type {type(value).__name__}",
            "An exported model holds plain values: say it in the config by a name, a "
            "number or a list of them",
        )
