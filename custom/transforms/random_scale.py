"""Random change of scale."""

from __future__ import annotations

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomScale(Resize):
    """Resize by a random factor of the image's own size.

    ``RandomResize`` brings every image to about one size, which magnifies a region of
    33 pixels thirty times; in microscopy the size of a pixel is known and a factor
    keeps the cells at their size.

    Args:
        factor_range: (low, high), the factor is drawn uniformly between them.
    """

    def __init__(self, factor_range: tuple[float, float], **kwargs) -> None:
        super().__init__(scale_factor=1.0, keep_ratio=True, **kwargs)
        self.factor_range = factor_range

    @cache_randomness
    def _draw(self) -> float:
        return float(np.random.uniform(*self.factor_range))

    def transform(self, results: dict) -> dict:
        """Resize image, boxes and masks."""
        self.scale_factor = self._draw()
        return super().transform(results)
