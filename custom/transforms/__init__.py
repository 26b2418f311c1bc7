"""Loading and augmentation."""

from .label_albu import LabelAlbu
from .label_copy_paste import LabelCopyPaste
from .label_random_erasing import LabelRandomErasing
from .load_cell_image import LoadCellImage
from .load_label_masks import LoadLabelMasks, ToBitmapMasks
from .random_dihedral import RandomDihedral
from .random_hed_jitter import RandomHEDJitter
from .random_saturation import RandomSaturation
from .random_scale import RandomScale

__all__ = [
    "LabelAlbu",
    "LabelCopyPaste",
    "LabelRandomErasing",
    "LoadCellImage",
    "LoadLabelMasks",
    "RandomDihedral",
    "RandomHEDJitter",
    "RandomSaturation",
    "RandomScale",
    "ToBitmapMasks",
]
