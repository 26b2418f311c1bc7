"""Colour augmentation and stain normalisation."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from skimage.color import hed_from_rgb, rgb_from_hed
from torchstain.base.normalizers import MacenkoNormalizer

from custom.errors import InputError
from custom.io.colours import DARK_FIELD

# The unit of scikit-image's stains: 1 is an absorption of 10^-6.
_UNIT = np.log(1e-6)
# The logarithm of each 8-bit value. scikit-image takes 0 for 10^-6; here it is half a
# level, or one step of noise in a dark pixel would outweigh any stain.
_LOG = np.log(np.maximum(np.arange(256), 0.5) / 255)
# Images in a pipeline are BGR.
_STAINS_OF_BGR = hed_from_rgb[::-1]
_BGR_OF_STAINS = rgb_from_hed[:, ::-1]
# Fewer do not tell two stains apart.
_TISSUE_PIXELS = 1000
# Weights of blue, green and red in the luma: ITU-R BT.601.
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)


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
        """Replace the image by one of jittered stains."""
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


@TRANSFORMS.register_module()
class RandomBlend(BaseTransform):
    """Change saturation or brightness, as detectron2's blend transforms.

    The result is ``w * image + (1 - w) * target``: the target for 0, the image for 1,
    more colourful or brighter above. The stock ``Color`` stops at 2, and the stock
    ``Brightness`` rounds its factor to one decimal. Reads and replaces ``img``
    (H, W, 3) uint8 BGR.

    Args:
        target: ``'gray'`` for saturation, ``'black'`` for brightness.
        weight_range: (low, high), w is drawn uniformly between them.
    """

    def __init__(self, target: str, weight_range: tuple[float, float]) -> None:
        if target not in ("gray", "black"):
            remedy = "Use 'gray' or 'black'"
            raise InputError("target", f"{target!r} is unknown", remedy)
        self.target, self.weight_range = target, tuple(weight_range)

    @cache_randomness
    def _draw(self) -> float:
        low, high = self.weight_range
        return float(np.random.uniform(low, high))

    def transform(self, results: dict) -> dict:
        """Replace the image by the blended one."""
        image, weight = results["img"].astype(np.float32), self._draw()
        blended = weight * image
        if self.target == "gray":
            blended += (1 - weight) * (image @ _LUMA)[:, :, None]
        results["img"] = np.clip(blended, 0, 255).astype(np.uint8)
        return results


@TRANSFORMS.register_module()
class StainNormalize(BaseTransform):
    """Give every image the stains of torchstain's reference, by Macenko's method.

    Macenko et al., A Method for Normalizing Histology Slides for Quantitative Analysis
    (ISBI 2009). The stains of an image are estimated from its own pixels, so it belongs
    directly after ``LoadCellImage`` in all pipelines, before crops; prediction in tiles
    estimates them in each tile. About 0.9 s a megapixel on one core. A dark-field
    image, or one with less than 1,000 pixels of tissue, keeps its colours.

    Reads and replaces ``img`` (H, W, 3) uint8 BGR.
    """

    def transform(self, results: dict) -> dict:
        """Replace the image by one of the reference's stains."""
        rgb = results["img"][:, :, ::-1]
        # The method's own choice of pixels: absorbance above 0.15 in all channels.
        tissue = (rgb < 240 * np.exp(-0.15) - 1).all(axis=2)
        dark_field = np.median(rgb.max(axis=2)) < DARK_FIELD
        if dark_field or np.count_nonzero(tissue) < _TISSUE_PIXELS:
            return results
        # Its normalize() keeps nothing of the image, but fit() would.
        normalizer = MacenkoNormalizer(backend="numpy")
        with np.errstate(all="ignore"):
            normalized, _, _ = normalizer.normalize(rgb, stains=False)
        results["img"] = np.ascontiguousarray(normalized[:, :, ::-1])
        return results
