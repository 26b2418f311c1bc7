"""The runner, its loop, hooks and visualizer."""

from custom.engine.atomic_checkpoint_hook import AtomicCheckpointHook
from custom.engine.batch_norm_stats_hook import BatchNormStatsHook
from custom.engine.cell_visualization_hook import CellVisualizationHook
from custom.engine.gradient_state_hook import GradientStateHook
from custom.engine.main_logger_hook import MainLoggerHook
from custom.engine.model_budget_hook import ModelBudgetHook
from custom.engine.non_finite_loss_hook import (
    FiniteLossAmpOptimWrapper,
    FiniteLossOptimWrapper,
    NonFiniteLossHook,
)
from custom.engine.out_of_memory_hook import explain_out_of_memory
from custom.engine.preemption_hook import PreemptionHook
from custom.engine.random_state_hook import RandomStateHook
from custom.engine.run_record_hook import RunRecordHook
from custom.engine.validation_loss_hook import ValidationLossHook
from custom.engine.visualizer import CellVisualizer, draw_contours

__all__ = [
    "AtomicCheckpointHook",
    "BatchNormStatsHook",
    "CellVisualizationHook",
    "CellVisualizer",
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
    "draw_contours",
    "explain_out_of_memory",
]
