"""Metrics and the submission."""

from .cell_coco_metric import CellCocoMetric
from .submission import Submission

__all__ = ["CellCocoMetric", "Submission"]
