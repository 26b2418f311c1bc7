"""Pictures."""

from .cell_visualizer import CellVisualizer, draw_contours

__all__ = ["CellVisualizer", "draw_contours"]
