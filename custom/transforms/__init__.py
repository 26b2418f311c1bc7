"""Loading and augmentation of images and of label images."""

import contextlib
import io

# mmdet.datasets prints a line for each optional package that is missing.
with contextlib.redirect_stdout(io.StringIO()):
    import mmdet.datasets.transforms  # noqa: F401

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
