"""Loading and augmentation of images and of label images."""

from custom.transforms.colour import RandomBlend, RandomHEDJitter, StainNormalize
from custom.transforms.copy_paste import LabelCopyPaste
from custom.transforms.geometry import RandomDihedral, RandomScale
from custom.transforms.loading import LoadCellImage, LoadLabelMasks, ToBitmapMasks

__all__ = [
    "LabelCopyPaste",
    "LoadCellImage",
    "LoadLabelMasks",
    "RandomBlend",
    "RandomDihedral",
    "RandomHEDJitter",
    "RandomScale",
    "StainNormalize",
    "ToBitmapMasks",
]
