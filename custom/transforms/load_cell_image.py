"""Loading of images."""

from __future__ import annotations

import cv2
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from custom.io.image import read_image


@TRANSFORMS.register_module()
class LoadCellImage(BaseTransform):
    """Load an image as 8-bit BGR, the order that MMDetection's bases expect.

    Reads ``img_path``; adds ``img`` (H, W, 3) uint8, ``img_shape``, ``ori_shape``.

    Args:
        max_value: The value of a 16-bit image that becomes 255, see
            :func:`custom.io.image.read_image`.
    """

    def __init__(self, max_value: int = 65_535) -> None:
        self.max_value = max_value

    def transform(self, results: dict) -> dict:
        """Add the image to ``results``."""
        rgb = read_image(results["img_path"], self.max_value)
        results["img"] = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        results["img_shape"] = results["ori_shape"] = rgb.shape[:2]
        return results
