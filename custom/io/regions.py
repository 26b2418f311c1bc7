"""Reading rectangles of images that are too large to be read whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from custom.errors import InputError
from custom.io.image import as_rgb, check_colours, is_tiff, read_image, tiff_page

# Strips and tiles of a TIFF: of the largest that are decoded, and of those kept.
_MAX_SEGMENT_BYTES = 1 << 28
_CACHE_BYTES = 1 << 26
# A width or height above this is a broken header: a whole slide has 2^17 or so.
_MAX_PIXELS = 1 << 40
_HAS_TABLES = (6, 7, 33007, 34892)  # JPEG


class ImageRegions:
    """An image of which rectangles are read.

    Of a TIFF (also Aperio's .svs, or the first level of a pyramid) only the strips or
    tiles are decoded that a rectangle touches; the last of them are kept, up to 64
    MiB, so that a row of rectangles decodes each strip once. Any other image is read
    whole, up to 2^28 pixels.

    Args:
        path: The image; of the types that :func:`custom.io.image.read_image` takes.
        max_value: The value of a 16-bit image that becomes 255.
        page: Of a TIFF, from 0; None if it must not have others.

    Attributes:
        size: (H, W) in pixels.

    Raises:
        InputError: The file is missing, truncated, no such image, not to be read by
            regions and too large to be read whole.
    """

    def __init__(
        self, path: str | Path, max_value: int = 65_535, page: int | None = None
    ) -> None:
        self.path, self.max_value = Path(path), max_value
        self._whole = self._file = None
        if not is_tiff(path):
            self._whole = read_image(path, max_value)
            self.size = self._whole.shape[:2]
            return
        with tiff_page(path, _MAX_PIXELS, page) as ifd:
            check_colours(path, ifd)
            height = ifd.tilelength if ifd.is_tiled else ifd.rowsperstrip
            width = ifd.tilewidth if ifd.is_tiled else ifd.imagewidth
            self.size = (int(ifd.imagelength), int(ifd.imagewidth))
            self._shape = (int(height), int(width))
            decoded = height * width * ifd.dtype.itemsize
            if ifd.planarconfig == 1:
                decoded *= ifd.samplesperpixel
            if decoded > _MAX_SEGMENT_BYTES:
                raise InputError(
                    path,
                    f"it is stored in pieces of {height}x{width} pixels, which can "
                    "only be read whole",
                    "Save it in tiles of 256x256 or 512x512 pixels",
                )
        self._file = tifffile.TiffFile(path)
        self._page = self._file.pages[page or 0]
        self._cache: OrderedDict[int, tuple] = OrderedDict()
        self._cached = 0

    def __enter__(self) -> ImageRegions:
        return self

    def __exit__(self, *exception) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        """Read rows y1 to y2 and columns x1 to x2, which lie in the image.

        Returns:
            (y2 - y1, x2 - x1, 3) uint8 RGB, as ``read_image(path)[y1:y2, x1:x2]``.

        Raises:
            InputError: The pixels cannot be decoded.
        """
        height, width = self.size
        if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
            raise ValueError(f"({y1}, {x1}, {y2}, {x2}) is not in {height}x{width}")
        if self._whole is not None:
            return self._whole[y1:y2, x1:x2].copy()
        try:
            image = self._read(y1, x1, y2, x2)
        except Exception as error:  # tifffile and codecs raise many types
            raise InputError(
                self.path,
                f"rows {y1} to {y2}, columns {x1} to {x2} cannot be read ({error})",
                "Copy or export the file again",
            ) from None
        return as_rgb(self.path, image, self.max_value)

    def _read(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        page = self._page
        image = np.zeros((y2 - y1, x2 - x1, page.samplesperpixel), page.dtype)
        for index in self._touched(y1, x1, y2, x2):
            segment, (sample, _, top, left, _) = self._segment(index)
            low_y, low_x = max(y1, top), max(x1, left)
            high_y = min(y2, top + segment.shape[0])
            high_x = min(x2, left + segment.shape[1])
            part = segment[low_y - top : high_y - top, low_x - left : high_x - left]
            samples = slice(sample, sample + segment.shape[2])
            image[low_y - y1 : high_y - y1, low_x - x1 : high_x - x1, samples] = part
        return image

    def _touched(self, y1: int, x1: int, y2: int, x2: int) -> Iterator[int]:
        """The numbers of the strips or tiles that share pixels with a rectangle."""
        (h, w), (height, width) = self._shape, self.size
        down, across = -(-height // h), -(-width // w)
        planes = 1 if self._page.planarconfig == 1 else self._page.samplesperpixel
        for plane in range(planes):
            for row in range(y1 // h, -(-y2 // h)):
                for column in range(x1 // w, -(-x2 // w)):
                    yield (plane * down + row) * across + column

    def _segment(self, index: int) -> tuple[np.ndarray, tuple]:
        """A decoded strip or tile, (h, w, samples), and its place in the image."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        page, file = self._page, self._file.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        options = {}
        if page.compression in _HAS_TABLES:
            options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded, place, _ = page.decode(data, index, **options)
        self._cache[index] = decoded[0], place
        self._cached += decoded.nbytes
        while self._cached > _CACHE_BYTES and len(self._cache) > 1:
            _, (oldest, _) = self._cache.popitem(last=False)
            self._cached -= oldest.nbytes
        return self._cache[index]
