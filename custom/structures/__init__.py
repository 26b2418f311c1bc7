"""Masks as label images (ground truth) and as RoI patches (predictions)."""

from .label_masks import LabelMasks
from .roi_masks import RoIMasks

__all__ = ["LabelMasks", "RoIMasks"]
