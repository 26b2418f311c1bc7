"""Hooks of the training loop."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .batch_norm_stats_hook import BatchNormStatsHook
from .cell_visualization_hook import CellVisualizationHook
from .gradient_state_hook import GradientStateHook
from .main_logger_hook import MainLoggerHook
from .model_budget_hook import ModelBudgetHook
from .non_finite_loss_hook import (
    FiniteLossAmpOptimWrapper,
    FiniteLossOptimWrapper,
    NonFiniteLossHook,
)
from .out_of_memory_hook import explain_out_of_memory
from .preemption_hook import PreemptionHook
from .random_state_hook import RandomStateHook
from .run_record_hook import RunRecordHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    "AtomicCheckpointHook",
    "BatchNormStatsHook",
    "CellVisualizationHook",
    "FiniteLossAmpOptimWrapper",
    "FiniteLossOptimWrapper",
    "GradientStateHook",
    "MainLoggerHook",
    "ModelBudgetHook",
    "NonFiniteLossHook",
    "PreemptionHook",
    "RandomStateHook",
    "RunRecordHook",
    "ValidationLossHook",
    "explain_out_of_memory",
]
