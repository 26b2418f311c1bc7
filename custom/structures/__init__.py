"""Masks as label images (ground truth), RoI patches (predictions) and in boxes."""

from .box_masks import BoxMasks
from .label_masks import LabelMasks
from .roi_masks import RoIMasks

__all__ = ["BoxMasks", "LabelMasks", "RoIMasks"]
