"""Random change of saturation."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

# Weights of blue, green and red in the luma: ITU-R BT.601.
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)


@TRANSFORMS.register_module()
class RandomSaturation(BaseTransform):
    """Blend an image with its gray version, as detectron2's ``RandomSaturation``.

    The result is ``w * image + (1 - w) * gray``: gray for 0, the image for 1, more
    colourful above. The stock ``Color`` does the same, but only up to 2. Reads and
    replaces ``img`` (H, W, 3) uint8 BGR.

    Args:
        intensity_range: (low, high), w is drawn uniformly between them.
    """

    def __init__(self, intensity_range: tuple[float, float]) -> None:
        self.intensity_range = tuple(intensity_range)

    @cache_randomness
    def _draw(self) -> float:
        return float(np.random.uniform(*self.intensity_range))

    def transform(self, results: dict) -> dict:
        """Change the image."""
        image, weight = results["img"].astype(np.float32), self._draw()
        gray = (image @ _LUMA)[:, :, None]
        blended = weight * image + (1 - weight) * gray
        results["img"] = np.clip(blended, 0, 255).astype(np.uint8)
        return results
