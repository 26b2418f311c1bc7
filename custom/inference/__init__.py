"""Tiles and merging: plain NumPy and PyTorch, no registry, no config."""

from custom.inference.fusion import Fused, fuse
from custom.inference.segmentation import Segmentation
from custom.inference.segmenter import Segmenter
from custom.inference.tiles import Detections, TileGrid, TileMerger
from custom.inference.views import View

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
