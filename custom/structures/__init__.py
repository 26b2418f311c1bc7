"""Masks as label images (ground truth), RoI patches (predictions) and in boxes.

Importing this package, :mod:`~custom.structures.rle`,
:mod:`~custom.structures.box_masks` or :mod:`~custom.structures.dihedral` does not
import torch; the classes that hold tensors are imported on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from custom.structures.box_masks import BoxMasks

if TYPE_CHECKING:
    from custom.structures.label_masks import LabelMasks
    from custom.structures.roi_masks import RoIMasks

__all__ = ["BoxMasks", "LabelMasks", "RoIMasks"]

_WITH_TORCH = {"LabelMasks": "label_masks", "RoIMasks": "roi_masks"}


def __getattr__(name: str) -> Any:
    """Import ``LabelMasks`` or ``RoIMasks`` when it is first asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
