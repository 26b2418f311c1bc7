"""Loading and augmentation."""

from custom.transforms.label_copy_paste import LabelCopyPaste
from custom.transforms.load_cell_image import LoadCellImage
from custom.transforms.load_label_masks import LoadLabelMasks, ToBitmapMasks
from custom.transforms.random_dihedral import RandomDihedral
from custom.transforms.random_hed_jitter import RandomHEDJitter
from custom.transforms.random_saturation import RandomSaturation
from custom.transforms.random_scale import RandomScale

__all__ = [
    "LabelCopyPaste",
    "LoadCellImage",
    "LoadLabelMasks",
    "RandomDihedral",
    "RandomHEDJitter",
    "RandomSaturation",
    "RandomScale",
    "ToBitmapMasks",
]
