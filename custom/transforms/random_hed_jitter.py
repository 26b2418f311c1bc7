"""Random change of the stains."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from skimage.color import hed_from_rgb, rgb_from_hed

# The unit of scikit-image's stains: 1 is an absorption of 10^-6.
_UNIT = np.log(1e-6)
# The logarithm of each 8-bit value. scikit-image takes 0 for 10^-6; here it is half a
# level, or one step of noise in a dark pixel would outweigh any stain.
_LOG = np.log(np.maximum(np.arange(256), 0.5) / 255)
# The files of the course are read as BGR.
_STAINS_OF_BGR = hed_from_rgb[::-1]
_BGR_OF_STAINS = rgb_from_hed[:, ::-1]


@TRANSFORMS.register_module()
class RandomHEDJitter(BaseTransform):
    """Jitter haematoxylin, eosin and DAB, each by itself: ``s * alpha + beta``.

    Stain augmentation of Tellez et al., Whole-Slide Mitosis Detection in H&E Breast
    Histology Using PHH3 as a Reference (IEEE TMI 37, 2126, 2018), with the stain
    matrix of :func:`skimage.color.rgb2hed` (Ruifrok and Johnston, 2001). A pixel's
    stains are linear in the logarithm of its colour, so that separating, jittering and
    combining are one affine map of it. Unlike in scikit-image, negative stains are
    kept: without them an image would change even for alpha 1 and beta 0.

    Reads and replaces ``img`` (H, W, 3) uint8 BGR.

    Args:
        sigma: alpha is drawn uniformly from 1 - sigma to 1 + sigma.
        shift: beta is drawn uniformly from -shift to shift, in the unit of rgb2hed: a
            dark nucleus has about 0.1 of haematoxylin.
    """

    def __init__(self, sigma: float, shift: float) -> None:
        self.sigma, self.shift = sigma, shift

    @cache_randomness
    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        alpha = np.random.uniform(1 - self.sigma, 1 + self.sigma, 3)
        beta = np.random.uniform(-self.shift, self.shift, 3)
        return alpha, beta

    def transform(self, results: dict) -> dict:
        """Change the image."""
        results["img"] = jitter(results["img"], *self._draw())
        return results


def jitter(image: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Scale and shift the stains of an image.

    Args:
        image: (H, W, 3) uint8 BGR.
        alpha: (3,) factors of haematoxylin, eosin and DAB.
        beta: (3,) summands, in the unit of :func:`skimage.color.rgb2hed`.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    linear = (_STAINS_OF_BGR * alpha) @ _BGR_OF_STAINS
    # log(255) turns the result from 0..1 into grey levels.
    constant = _UNIT * (beta @ _BGR_OF_STAINS) + np.log(255)
    # OpenCV multiplies columns from the left.
    matrix = np.column_stack([linear.T, constant])
    logarithms = cv2.transform(cv2.LUT(image, _LOG.astype(np.float32)), matrix)
    return cv2.convertScaleAbs(cv2.exp(logarithms))
