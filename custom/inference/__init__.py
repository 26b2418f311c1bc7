"""Tiles, merging and prediction: no registry, no config.

The names are imported on first use (PEP 562): a model that merges tiles needs neither
slides nor overlays.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from custom.inference.segmentation import Segmentation
    from custom.inference.segmenter import Segmenter
    from custom.inference.tiles import Detections

__all__ = ["Detections", "Segmentation", "Segmenter"]

_MODULES = {
    "Detections": "tiles",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
}


def __getattr__(name: str) -> Any:
    """Import one of the names when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
