"""Open images of any size and scanner, and find the size of their pixels."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tifffile

from custom.errors import InputError
from custom.io.image import read_bitmap
from custom.io.pixels import ArrayPixels, Pixels
from custom.io.tiff import (
    COPY_AGAIN,
    MAX_SLIDE_PIXELS,
    MISSING,
    check_colours,
    check_page,
    check_part,
    is_tiff,
    levels_of,
    ome_images,
    open_tiff,
)

#: Endings of scanners' files that OpenSlide reads; .svs and .tif are TIFF.
SLIDE_SUFFIXES = (".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide", ".czi")
# Decoded strips and tiles of a TIFF that are kept: a row of tiles of 768 pixels in a
# slide of 60,000, so that the next row, which overlaps it, does not decode them again.
_CACHE_BYTES = 3 << 27
_HAS_TABLES = (6, 7, 33007, 34892)  # JPEG
_MICROMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "\\u00B5m", "micron", "microns"), 1.0),
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25_400.0,
}
# Sizes of a pixel in µm that a microscope can have, from a 100x oil lens to a 1x
# overview. A resolution tag beyond is that of a screen: 72 dpi would be 353 µm.
_PLAUSIBLE_MPP = 0.02, 20.0
# The sides of a pixel may differ by this share and still be one number.
_TOLERANCE = 0.01


def open_image(
    path: str | Path, max_value: int = 65_535, page: int | None = None
) -> Pixels:
    """Open an image of any format and size.

    TIFF (also Aperio's .svs and tiled pyramids) by tifffile, other scanners' formats by
    OpenSlide, the rest whole as :func:`custom.io.image.read_image` does. On tiled JPEG
    tifffile takes a fifth of OpenSlide's time (docs/predict.md).

    Args:
        path: The image.
        max_value: The value of a 16-bit image that becomes 255.
        page: Of a TIFF, from 0; None if it must be one image.

    Raises:
        InputError: The file is missing, truncated or not such an image.
    """
    path = Path(path)
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return SlidePixels(path)
    if not is_tiff(path):
        return ArrayPixels(read_bitmap(path), max_value, path)
    if _vendor(path) in (None, "aperio", "generic-tiff"):
        return TiffPixels(path, max_value, page)
    return SlidePixels(path)


def _vendor(path: Path) -> str | None:
    """Whose scanner has written a TIFF; None if it cannot be read."""
    from openslide import OpenSlide, OpenSlideError

    try:
        return OpenSlide.detect_format(path)
    except OpenSlideError:
        return None


class TiffPixels(Pixels):
    """A TIFF, of which the strips or tiles are decoded that a rectangle touches.

    The last of them are kept, up to 384 MiB, so that rows of rectangles decode each
    strip once. A strip without compression is mapped, not read.
    """

    def __init__(
        self, path: str | Path, max_value: int, number: int | None = None
    ) -> None:
        super().__init__(path, max_value)
        with ExitStack() as stack:
            self._file = stack.enter_context(open_tiff(path))
            self._pages = levels_of(path, self._file, number)
            for page in self._pages:
                check_page(path, page, MAX_SLIDE_PIXELS)
                check_colours(path, page)
            self.mpp, problem = _pixel_size(self._pages[0])
            self.from_scanner = self._file.is_svs
            self._stack = stack.pop_all()
        self.notes = [problem] if problem else []
        self.sizes = [(int(p.imagelength), int(p.imagewidth)) for p in self._pages]
        self._cache: OrderedDict[tuple[int, int], tuple] = OrderedDict()
        self._cached = 0

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`."""
        height, width = self.sizes[level]
        if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
            raise ValueError(f"({y1}, {x1}, {y2}, {x2}) is not in {height}x{width}")
        try:
            image = self._read(level, y1, x1, y2, x2)
        except InputError:
            raise
        except Exception as error:  # tifffile and codecs raise many types
            raise InputError(
                self.source,
                f"rows {y1} to {y2}, columns {x1} to {x2} cannot be read ({error})",
                COPY_AGAIN,
            ) from None
        return self._rgb(image)

    def _read(self, level: int, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
        page = self._pages[level]
        if page.is_memmappable and page.planarconfig == 1:
            shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
            whole = page.parent.filehandle.memmap_array(
                page.parent.byteorder + page.dtype.char, shape, page.dataoffsets[0]
            )
            return np.array(whole[y1:y2, x1:x2], page.dtype)
        image = np.zeros((y2 - y1, x2 - x1, page.samplesperpixel), page.dtype)
        for index in _touched(page, y1, x1, y2, x2):
            segment, (sample, _, top, left, _) = self._segment(level, index)
            low_y, low_x = max(y1, top), max(x1, left)
            high_y = min(y2, top + segment.shape[0])
            high_x = min(x2, left + segment.shape[1])
            part = segment[low_y - top : high_y - top, low_x - left : high_x - left]
            samples = slice(sample, sample + segment.shape[2])
            image[low_y - y1 : high_y - y1, low_x - x1 : high_x - x1, samples] = part
        return image

    def _segment(self, level: int, index: int) -> tuple[np.ndarray, tuple]:
        """A decoded strip or tile, (h, w, samples), and its place in the level."""
        key = level, index
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        page, file = self._pages[level], self._file.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        check_part(self.source, page, data)
        options = {}
        if page.compression in _HAS_TABLES:
            options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded, place, _ = page.decode(data, index, **options)
        self._cache[key] = decoded[0], place
        self._cached += decoded.nbytes
        while self._cached > _CACHE_BYTES and len(self._cache) > 1:
            _, (oldest, _) = self._cache.popitem(last=False)
            self._cached -= oldest.nbytes
        return self._cache[key]


def _touched(
    page: tifffile.TiffPage, y1: int, x1: int, y2: int, x2: int
) -> Iterator[int]:
    """The numbers of the strips or tiles that share pixels with a rectangle."""
    h = page.tilelength if page.is_tiled else page.rowsperstrip
    w = page.tilewidth if page.is_tiled else page.imagewidth
    down, across = -(-page.imagelength // h), -(-page.imagewidth // w)
    for plane in range(1 if page.planarconfig == 1 else page.samplesperpixel):
        for row in range(y1 // h, -(-y2 // h)):
            for column in range(x1 // w, -(-x2 // w)):
                yield (plane * down + row) * across + column


class SlidePixels(Pixels):
    """A scanner's file that OpenSlide reads; what was not scanned is white."""

    from_scanner = True

    def __init__(self, path: str | Path) -> None:
        from openslide import OpenSlide, OpenSlideError

        super().__init__(path)
        self._error = OpenSlideError
        if not Path(path).exists():
            raise InputError(path, *MISSING)
        try:
            self._slide = OpenSlide(path)
        except OpenSlideError as error:
            raise InputError(
                path, f"not a readable slide ({error})", COPY_AGAIN
            ) from None
        # Scanners' levels can disagree by a few pixels, which does not matter here.
        self.sizes = [(h, w) for w, h in self._slide.level_dimensions]
        x, y = (self._slide.properties.get(f"openslide.mpp-{a}") for a in "xy")
        if x is not None and y is not None:
            try:
                self.mpp, problem = _usable(float(x), float(y))
            except ValueError:
                problem = f"its pixel size {x} is not a number"
            self.notes = [problem] if problem else []

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`."""
        # OpenSlide places a rectangle by pixels of the first level.
        factor = self._slide.level_downsamples[level]
        place = round(x1 * factor), round(y1 * factor)
        try:
            part = self._slide.read_region(place, level, (x2 - x1, y2 - y1))
        except self._error as error:
            raise InputError(
                self.source, f"it cannot be read ({error})", COPY_AGAIN
            ) from None
        rgba = np.asarray(part)
        rgb = np.ascontiguousarray(rgba[:, :, :3])
        rgb[rgba[:, :, 3] == 0] = 255
        return rgb


def _pixel_size(page: tifffile.TiffPage) -> tuple[float | None, str]:
    """The side of a pixel in µm, and what is wrong with a size that cannot be used.

    In this order: Aperio's ``MPP``, OME's ``PhysicalSizeX`` and ``Y``, ImageJ's unit
    with the resolution tags, and the resolution tags alone if they are in inches or
    centimetres. None and an empty text where the file does not name a size.
    """
    try:
        sides = _sides(page)
    except Exception:  # metadata are optional, and programs write anything
        return None, "its MPP is not a number" if page.parent.is_svs else ""
    return (None, "") if sides is None else _usable(*sides)


def _usable(x: float, y: float) -> tuple[float | None, str]:
    """A pixel's side in µm if it is possible, else what is wrong with it."""
    low, high = _PLAUSIBLE_MPP
    if not all(low <= side <= high for side in (x, y)):  # also not a number
        return None, f"its pixel size of {x:g} x {y:g} µm is not possible"
    if abs(x / y - 1) > _TOLERANCE:
        return None, f"its pixels of {x:g} x {y:g} µm are not square"
    return math.sqrt(x * y), ""


def _sides(page: tifffile.TiffPage) -> tuple[float, float] | None:
    file = page.parent
    if file.is_svs:
        text = re.search(r"\bMPP\s*=\s*([^|]*)", file.pages[0].description)
        return (float(text[1]),) * 2 if text else None
    if file.is_ome:
        images = ome_images(file)
        pixels = images[page.index if len(images) > page.index else 0]
        x, y = (
            float(pixels[f"PhysicalSize{axis}"])
            * _MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
        return x, y
    unit = (file.imagej_metadata or {}).get("unit")
    scale = _MICROMETRES[unit or {2: "inch", 3: "cm"}[int(page.resolutionunit)]]
    x, y = (scale / count for count in page.get_resolution())
    return (x, y) if unit or _PLAUSIBLE_MPP[0] <= x <= _PLAUSIBLE_MPP[1] else None
