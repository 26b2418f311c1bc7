"""Masks as label images (ground truth), RoI patches (predictions) and in boxes."""

from custom.structures.box_masks import BoxMasks
from custom.structures.label_masks import LabelMasks
from custom.structures.roi_masks import RoIMasks

__all__ = ["BoxMasks", "LabelMasks", "RoIMasks"]
