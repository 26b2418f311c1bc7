"""Metrics, prediction files and the submission."""

from custom.evaluation.cell_coco_metric import CellCocoMetric
from custom.evaluation.cell_panoptic_metric import CellPanopticMetric
from custom.evaluation.predictions import (
    ImagePredictions,
    PredictionDump,
    Predictions,
    read_predictions,
)
from custom.evaluation.submission import Submission

__all__ = [
    "CellCocoMetric",
    "CellPanopticMetric",
    "ImagePredictions",
    "PredictionDump",
    "Predictions",
    "Submission",
    "read_predictions",
]
