"""Images in memory and parts of images, read as ``ImageRegions`` is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from custom.errors import InputError
from custom.io.image import as_rgb, check_size


class Pixels(Protocol):
    """An image of which rectangles are read, such as ``ImageRegions``.

    Attributes:
        size: (H, W) in pixels.
    """

    size: tuple[int, int]

    def read(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        """(y2 - y1, x2 - x1, 3) uint8 RGB of rows y1 to y2 and columns x1 to x2."""


class ArrayPixels:
    """An image in memory.

    Args:
        image: (H, W) or (H, W, 1 to 4), uint8 or uint16, RGB(A) or gray.
        max_value: The value of a 16-bit image that becomes 255.

    Raises:
        InputError: It has no pixels, or another shape or type.
    """

    def __init__(self, image: np.ndarray, max_value: int = 65_535) -> None:
        image = np.asarray(image)
        self._rgb = as_rgb("array", image, max_value)
        self.size = self._rgb.shape[:2]
        check_size("array", *self.size)

    def read(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        """See :class:`Pixels`."""
        return self._rgb[y1:y2, x1:x2]


class PartPixels:
    """A rectangle of an image.

    Args:
        image: The image.
        region: (x, y, width, height) in pixels.
        source: What is named when something is wrong.

    Attributes:
        origin: (x, y) of the first pixel in the image.

    Raises:
        InputError: The region is empty or not in the image.
    """

    def __init__(self, image: Pixels, region: Sequence[int], source: str) -> None:
        x, y, width, height = map(int, region)
        if (
            min(x, y) < 0
            or min(width, height) < 1
            or (x + width > image.size[1] or y + height > image.size[0])
        ):
            raise InputError(
                source,
                f"the region of {width}x{height} pixels at ({x}, {y}) is not in the "
                f"image of {image.size[1]}x{image.size[0]}",
                "A region is x,y,width,height in pixels",
            )
        self._image = image
        self.origin, self.size = (x, y), (height, width)

    def read(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        """See :class:`Pixels`."""
        x, y = self.origin
        return self._image.read(y + y1, x + x1, y + y2, x + x2)
