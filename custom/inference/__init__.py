"""Tiles and merging: plain NumPy and PyTorch, no registry, no config."""

from .fusion import Fused, fuse
from .segmentation import Segmentation
from .segmenter import Segmenter
from .tiles import Detections, TileGrid, TileMerger
from .views import View

__all__ = [
    "Detections",
    "Fused",
    "Segmentation",
    "Segmenter",
    "TileGrid",
    "TileMerger",
    "View",
    "fuse",
]
