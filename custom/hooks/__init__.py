"""Hooks of the training loop."""

from .cell_visualization_hook import CellVisualizationHook
from .model_budget_hook import ModelBudgetHook
from .non_finite_loss_hook import (
    FiniteLossAmpOptimWrapper,
    FiniteLossOptimWrapper,
    NonFiniteLossHook,
)
from .run_record_hook import RunRecordHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    "CellVisualizationHook",
    "FiniteLossAmpOptimWrapper",
    "FiniteLossOptimWrapper",
    "ModelBudgetHook",
    "NonFiniteLossHook",
    "RunRecordHook",
    "ValidationLossHook",
]
