"""Hooks of the training loop."""

from .cell_visualization_hook import CellVisualizationHook
from .model_budget_hook import ModelBudgetHook
from .run_record_hook import RunRecordHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    "CellVisualizationHook",
    "ModelBudgetHook",
    "RunRecordHook",
    "ValidationLossHook",
]
