"""Tiles and merging: plain NumPy and PyTorch, no registry, no config."""

from .fusion import Fused, fuse
from .tiles import Detections, TileGrid, TileMerger
from .views import View

__all__ = ["Detections", "Fused", "TileGrid", "TileMerger", "View", "fuse"]
