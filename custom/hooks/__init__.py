"""Hooks of the training loop."""

from .cell_visualization_hook import CellVisualizationHook
from .run_record_hook import RunRecordHook

__all__ = ["CellVisualizationHook", "RunRecordHook"]
