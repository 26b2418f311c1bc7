"""What is compared when two runs must have come to the same end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from custom.io.checkpoint import read_checkpoint

# What says when and where a run was, not what came out.
_NOTES = (
    *("time", "data_time", "memory", "cfg", "experiment_name", "eta"),
    "mmengine_version",  # with the commit of the checkout
)
# MMEngine's notes for the log: where the loop was when it last looked.
_PLACES = (
    "/message_hub/runtime_info/iter",
    "/message_hub/runtime_info/epoch",
    "/message_hub/resumed_keys/batches_done",
)


def differences(a: Path, b: Path) -> list[str]:
    """The places where two checkpoints are not equal to the bit."""
    return list(_differences(read_checkpoint(a), read_checkpoint(b), ""))


def _differences(a, b, place: str) -> Iterator[str]:
    if isinstance(a, HistoryBuffer):
        a, b = a.data, b.data
    if type(a) is not type(b):
        yield f"{place}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, dict):
        for key in sorted({*a, *b}, key=str):
            if str(key).rsplit("/", 1)[-1] in _NOTES or f"{place}/{key}" in _PLACES:
                continue
            if key in a and key in b:
                yield from _differences(a[key], b[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}: only in the {'first' if key in a else 'second'}"
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            yield f"{place}: lengths {len(a)} and {len(b)}"
        for i, (left, right) in enumerate(zip(a, b, strict=False)):
            yield from _differences(left, right, f"{place}/{i}")
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield f"{place}: tensors"
    elif isinstance(a, np.ndarray):
        if a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=True):
            yield f"{place}: arrays"
    elif isinstance(a, str) and a.endswith(".pth"):
        if Path(a).name != Path(b).name:
            yield f"{place}: {a} and {b}"
    elif a != b:
        yield f"{place}: {a} and {b}"
