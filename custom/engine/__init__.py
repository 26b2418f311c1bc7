"""The runner, its loop, hooks and visualizer."""

import custom.datasets  # noqa: F401 (before mmdet.engine: keeps its lines off the screen)
from custom.engine.guards import (
    ClassCheckHook,
    FiniteLossOptimWrapper,
    ModelBudgetHook,
    NonFiniteLossHook,
    ScheduleCheckHook,
)
from custom.engine.logging import CellVisualizationHook, MainLoggerHook
from custom.engine.record import RunRecordHook
from custom.engine.resume import AtomicCheckpointHook, PreemptionHook
from custom.engine.runner import CellRunner, ResumableEpochLoop
from custom.engine.validation_loss import ValidationLossHook
from custom.engine.visualizer import CellVisualizer

__all__ = [
    "AtomicCheckpointHook",
    "CellRunner",
    "CellVisualizationHook",
    "CellVisualizer",
    "ClassCheckHook",
    "FiniteLossOptimWrapper",
    "MainLoggerHook",
    "ModelBudgetHook",
    "NonFiniteLossHook",
    "PreemptionHook",
    "ResumableEpochLoop",
    "RunRecordHook",
    "ScheduleCheckHook",
    "ValidationLossHook",
]
