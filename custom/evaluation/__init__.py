"""Metrics, prediction files and the submission."""

from .cell_coco_metric import CellCocoMetric
from .cell_panoptic_metric import CellPanopticMetric
from .offline import evaluate_predictions, labelled_images
from .predictions import (
    ImagePredictions,
    PredictionDump,
    Predictions,
    read_predictions,
)
from .raw_predictions import RawDump, RawPredictions, raw_test_cfg
from .submission import Submission

__all__ = [
    "CellCocoMetric",
    "CellPanopticMetric",
    "ImagePredictions",
    "PredictionDump",
    "Predictions",
    "RawDump",
    "RawPredictions",
    "Submission",
    "evaluate_predictions",
    "labelled_images",
    "raw_test_cfg",
    "read_predictions",
]
