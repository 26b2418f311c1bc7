"""Loading and augmentation."""

from .load_cell_image import LoadCellImage
from .load_label_masks import LoadLabelMasks, ToBitmapMasks
from .random_scale import RandomScale

__all__ = ["LoadCellImage", "LoadLabelMasks", "RandomScale", "ToBitmapMasks"]
