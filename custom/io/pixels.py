"""Images of which rectangles are read, at any resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from custom.errors import InputError
from custom.io.image import as_rgb
from custom.io.tiff import check_size

# Pixels that are read at once when an image is made smaller.
_BAND_PIXELS = 1 << 25


class Pixels:
    """An image of which rectangles are read; close it, or use ``with``.

    Args:
        source: The file, for error messages.
        max_value: The value of a 16-bit image that becomes 255.

    Attributes:
        sizes: (H, W) of each level of the pyramid, largest first.
        mpp: The side of a pixel in micrometres; None if it is not known.
        from_scanner: Whether the file is of a slide scanner.
        notes: What the user should know about the file, in sentences.
    """

    sizes: list[tuple[int, int]]
    mpp: float | None = None
    from_scanner = False
    notes: Sequence[str] = ()

    def __init__(self, source: str | Path, max_value: int = 65_535) -> None:
        self.source, self.max_value, self._highest = source, max_value, 0

    def __enter__(self) -> Pixels:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if there is one."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.sizes[0]

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """(y2 - y1, x2 - x1, 3) uint8 RGB of rows y1 to y2 and columns x1 to x2.

        Raises:
            InputError: The pixels cannot be decoded.
        """
        raise NotImplementedError

    def _rgb(self, image: np.ndarray) -> np.ndarray:
        if image.dtype == np.uint16:
            self._highest = max(self._highest, int(image.max(initial=0)))
        return as_rgb(self.source, image, self.max_value)

    def dark_note(self) -> str:
        """A warning if the 16-bit pixels read so far fill under an eighth of the range.

        Such an image is black: cameras of 12 bits write up to 4,095 of 65,535.
        """
        if not 0 < self._highest < self.max_value / 8:
            return ""
        return (
            f"its largest value is {self._highest}, so that it is nearly black as an "
            f"image of up to {self.max_value}; try --max-value "
            f"{2 ** self._highest.bit_length() - 1}"
        )


class ArrayPixels(Pixels):
    """An image in memory.

    Args:
        image: (H, W) or (H, W, 1 to 4), uint8 or uint16, RGB(A) or gray.
        max_value: The value of a 16-bit image that becomes 255.
        source: Named in error messages.

    Raises:
        InputError: The image lacks pixels, or has another shape or type.
    """

    def __init__(
        self, image: np.ndarray, max_value: int = 65_535, source: str | Path = "array"
    ) -> None:
        super().__init__(source, max_value)
        self._image = self._rgb(np.asarray(image))
        self.sizes = [self._image.shape[:2]]
        check_size(source, *self.size)

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`."""
        return self._image[y1:y2, x1:x2]


class PartPixels(Pixels):
    """A rectangle of an image, with red and blue exchanged if asked for.

    Args:
        image: The image.
        region: (x, y, width, height) in pixels; default: all of it.
        exchange: Whether to exchange red and blue.
        source: Named in error messages.

    Attributes:
        origin: (x, y) of the first pixel in the image.

    Raises:
        InputError: The region is empty or not in the image.
    """

    def __init__(
        self,
        image: Pixels,
        region: Sequence[int] | None = None,
        exchange: bool = False,
        source: str = "image",
    ) -> None:
        x, y, width, height = map(int, region or (0, 0, *image.size[::-1]))
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
        super().__init__(source)
        self._image, self._exchange = image, exchange
        self.origin = x, y
        self.sizes = [(height, width)] if region else image.sizes

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`."""
        x, y = self.origin
        stored = self._image.read(y + y1, x + x1, y + y2, x + x2, level)
        return np.ascontiguousarray(stored[:, :, ::-1]) if self._exchange else stored


class Scaled(NamedTuple):
    """A rectangle of an image at another resolution.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        step: (x, y), the image's pixels per pixel of the rectangle.
        origin: (x, y) of the rectangle's corner in the image; levels of a pyramid do
            not begin at whole pixels of the image.
    """

    pixels: np.ndarray
    step: tuple[float, float]
    origin: tuple[float, float]


def read_scaled(
    image: Pixels, rectangle: tuple[int, int, int, int], scale: float
) -> Scaled:
    """Read a rectangle at ``scale`` times the image's resolution.

    The smallest level of the pyramid is read that is not coarser, then resampled:
    by means of areas to less, bilinearly to more.

    Args:
        image: The image.
        rectangle: (y1, x1, y2, x2) in pixels of the image.
        scale: Pixels of the result per pixel of the image; 1 returns the pixels.
    """
    y1, x1, y2, x2 = rectangle
    if scale == 1:
        return Scaled(image.read(y1, x1, y2, x2), (1.0, 1.0), (float(x1), float(y1)))
    level = _level(image, scale)
    height, width = image.sizes[level]
    fy, fx = image.size[0] / height, image.size[1] / width
    # Outwards to whole pixels of the level.
    top, left = int(y1 / fy), int(x1 / fx)
    bottom = min(height, max(top + 1, math.ceil(y2 / fy)))
    right = min(width, max(left + 1, math.ceil(x2 / fx)))
    pixels = image.read(top, left, bottom, right, level)
    size = (
        max(1, round((right - left) * fx * scale)),
        max(1, round((bottom - top) * fy * scale)),
    )
    smaller = size[0] <= pixels.shape[1] and size[1] <= pixels.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    step = (right - left) * fx / size[0], (bottom - top) * fy / size[1]
    resized = cv2.resize(pixels, size, interpolation=how)
    return Scaled(resized, step, (left * fx, top * fy))


def _level(image: Pixels, scale: float) -> int:
    """The smallest level that has at least ``scale`` times the image's pixels."""
    enough = [
        level
        for level, (height, width) in enumerate(image.sizes)
        if height >= 0.999 * scale * image.size[0]
        and width >= 0.999 * scale * image.size[1]
    ]
    return enough[-1] if enough else 0


def overview(image: Pixels, max_side: int) -> np.ndarray:
    """A whole image with sides of at most ``max_side`` pixels, read in bands of rows.

    Returns:
        (h, w, 3) uint8 RGB, the means of the pixels.
    """
    scale = min(1.0, max_side / max(image.size))
    level = _level(image, scale)
    height, width = image.sizes[level]
    rows, columns = (max(1, round(side * scale)) for side in image.size)
    small = np.empty((rows, columns, 3), np.uint8)
    step = max(1, _BAND_PIXELS * rows // (width * height))
    for first in range(0, rows, step):
        last = min(first + step, rows)
        top, bottom = first * height // rows, -(-last * height // rows)
        band = image.read(top, 0, bottom, width, level)
        small[first:last] = cv2.resize(
            band, (columns, last - first), interpolation=cv2.INTER_AREA
        )
    return small
