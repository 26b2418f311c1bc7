"""Images of any size and scanner, of which rectangles are read."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import tifffile

from custom.errors import InputError
from custom.io.image import as_rgb, read_bitmap
from custom.io.pixels import Pixels
from custom.io.tiff import (
    MAX_SLIDE_PIXELS,
    MISSING,
    PLAUSIBLE_MPP,
    check_colours,
    check_no_stack,
    check_page,
    check_part,
    images_of,
    is_tiff,
    open_tiff,
    stored_pixel_size,
)

#: Endings of scanners' files that OpenSlide reads; .svs and .tif are TIFF.
SLIDE_SUFFIXES = (".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide", ".czi")
# Decoded strips and tiles of a TIFF that are kept.
_CACHE_BYTES = 1 << 26
_HAS_TABLES = (6, 7, 33007, 34892)  # JPEG


class OpenImage(Pixels):
    """An image file of which rectangles are read; close it, or use ``with``.

    Attributes:
        size: (H, W) in pixels.
        sizes: (H, W) of each level of the pyramid, largest first; ``[size]`` without.
        mpp: The side of a pixel in micrometres; None if the file does not say.
        from_scanner: Whether the file is of a slide scanner.
        notes: What is odd about the file, in sentences.
    """

    mpp: float | None = None
    from_scanner = False

    def __init__(self, path: str | Path, max_value: int) -> None:
        self.path, self.max_value = Path(path), max_value
        self.notes: list[str] = []
        self._highest = 0

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""

    def _rgb(self, image: np.ndarray) -> np.ndarray:
        if image.dtype == np.uint16:
            self._highest = max(self._highest, int(image.max(initial=0)))
        return as_rgb(self.path, image, self.max_value)

    def dark_note(self) -> str:
        """What is wrong if 16-bit pixels read so far fill under an eighth of the range.

        Such an image is black: cameras of 12 bits write up to 4,095 of 65,535.
        """
        if not 0 < self._highest < self.max_value / 8:
            return ""
        bits = 2 ** math.ceil(math.log2(self._highest + 1)) - 1
        return (
            f"its largest value is {self._highest}, so that it is nearly black as an "
            f"image of up to {self.max_value}; try --max-value {bits}"
        )


def open_image(
    path: str | Path, max_value: int = 65_535, page: int | None = None
) -> OpenImage:
    """Open an image of any format and size.

    TIFF (also Aperio's .svs and tiled pyramids) by tifffile, other scanners' formats by
    OpenSlide, the rest whole as :func:`custom.io.image.read_image` does. On tiled JPEG
    tifffile takes a fifth of OpenSlide's time (docs/performance.md).

    Args:
        path: The image.
        max_value: The value of a 16-bit image that becomes 255.
        page: Of a TIFF, from 0; None if it must be one image.

    Raises:
        InputError: The file is missing, truncated or not such an image.
    """
    path = Path(path)
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return SlideImage(path)
    if not is_tiff(path):
        return WholeImage(path, max_value)
    vendor = _vendor(path)
    if vendor in (None, "aperio", "generic-tiff"):
        return TiffImage(path, max_value, page)
    return SlideImage(path)


def _vendor(path: Path) -> str | None:
    """Whose scanner has written a TIFF; None if it cannot be read."""
    from openslide import OpenSlide, OpenSlideError

    try:
        return OpenSlide.detect_format(path)
    except OpenSlideError:
        return None


class WholeImage(OpenImage):
    """An image that is decoded at once: PNG, JPEG, BMP, ..."""

    def __init__(self, path: str | Path, max_value: int) -> None:
        super().__init__(path, max_value)
        self._whole = self._rgb(read_bitmap(path))
        self.size = self._whole.shape[:2]
        self.sizes = [self.size]

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`."""
        return self._whole[y1:y2, x1:x2].copy()


class TiffImage(OpenImage):
    """A TIFF, of which the strips or tiles are decoded that a rectangle touches.

    The last of them are kept, up to 64 MiB, so that a row of rectangles decodes each
    strip once. A strip without compression is mapped, not read.
    """

    def __init__(
        self, path: str | Path, max_value: int, number: int | None = None
    ) -> None:
        super().__init__(path, max_value)
        with ExitStack() as stack:
            self._file = stack.enter_context(open_tiff(path))
            check_no_stack(path, self._file)
            self._pages = levels_of(path, self._file, number)
            for page in self._pages:
                check_page(path, page, MAX_SLIDE_PIXELS)
                check_colours(path, page)
            self.mpp, problem = stored_pixel_size(self._file, number or 0)
            self.from_scanner = self._file.is_svs
            self._stack = stack.pop_all()
        self.notes += [problem] if problem else []
        self.sizes = [(int(p.imagelength), int(p.imagewidth)) for p in self._pages]
        self.size = self.sizes[0]
        self._cache: OrderedDict[tuple[int, int], tuple] = OrderedDict()
        self._cached = 0

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """(y2 - y1, x2 - x1, 3) uint8 RGB of a rectangle of a level.

        Raises:
            InputError: The pixels cannot be decoded.
        """
        height, width = self.sizes[level]
        if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
            raise ValueError(f"({y1}, {x1}, {y2}, {x2}) is not in {height}x{width}")
        try:
            image = self._read(level, y1, x1, y2, x2)
        except InputError:
            raise
        except Exception as error:  # tifffile and codecs raise many types
            raise InputError(
                self.path,
                f"rows {y1} to {y2}, columns {x1} to {x2} cannot be read ({error})",
                "Copy or export the file again",
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
        check_part(self.path, page, data)
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


def levels_of(
    path: str | Path, file: tifffile.TiffFile, number: int | None
) -> list[tifffile.TiffPage]:
    """The levels of one image of a TIFF; of a page that is not one, the page alone.

    Raises:
        InputError: The file is several images and no number is given.
    """
    images = images_of(file)
    if number is None:
        if len(images) > 1:
            raise InputError(
                path,
                f"holds {len(images)} images, expected one",
                "Save each as a file of its own",
            )
        return images[0]
    for levels in images:
        if levels[0].index == number:
            return levels
    return [file.pages[number]]


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


class SlideImage(OpenImage):
    """A scanner's file that OpenSlide reads; what was not scanned is white."""

    from_scanner = True

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, 255)
        from openslide import OpenSlide, OpenSlideError

        self._error = OpenSlideError
        if not self.path.exists():
            raise InputError(path, *MISSING)
        try:
            self._slide = OpenSlide(self.path)
        except OpenSlideError as error:
            raise InputError(
                path, f"not a readable slide ({error})", "Copy the file again"
            ) from None
        # Scanners' levels can disagree by a few pixels, which does not matter here.
        self.sizes = [(h, w) for w, h in self._slide.level_dimensions]
        self.size = self.sizes[0]
        sides = [self._slide.properties.get(f"openslide.mpp-{a}") for a in "xy"]
        try:
            mpp = math.sqrt(float(sides[0]) * float(sides[1]))
            low, high = PLAUSIBLE_MPP
            self.mpp = mpp if low <= mpp <= high else None
        except (TypeError, ValueError):
            self.mpp = None
        if self.mpp is None and any(sides):
            self.notes.append(f"its pixel size of {sides[0]} µm is not possible")

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def read(self, y1: int, x1: int, y2: int, x2: int, level: int = 0) -> np.ndarray:
        """See :class:`Pixels`.

        Raises:
            InputError: The pixels cannot be decoded.
        """
        # OpenSlide places a rectangle by pixels of the first level.
        factor = self._slide.level_downsamples[level]
        place = round(x1 * factor), round(y1 * factor)
        try:
            part = self._slide.read_region(place, level, (x2 - x1, y2 - y1))
        except self._error as error:
            raise InputError(
                self.path, f"it cannot be read ({error})", "Copy the file again"
            ) from None
        rgba = np.asarray(part)
        rgb = np.ascontiguousarray(rgba[:, :, :3])
        rgb[rgba[:, :, 3] == 0] = 255
        return rgb
