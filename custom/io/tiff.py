"""Contents of a TIFF: images, levels of their pyramids, the size of a pixel."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import tifffile

from custom.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
# Aperio's scanner files are TIFF: the slide, then a thumbnail, a label and a macro.
_SLIDE_SUFFIX = ".svs"
EXPORT_AGAIN = "Export the file again, or take it out of the data set"
MISSING = "the file does not exist", "Check the data root and the name"
# Strips and tiles beyond this many values are not decoded: a file of a few bytes can
# declare more than any memory holds.
_MAX_PART = 1 << 31
# A width or height above this is a broken header: a whole slide has 2^17 or so.
MAX_SLIDE_PIXELS = 1 << 40
_MAX_PAGES = 100_000
_JPEG = tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG
_JPEG_2000 = (
    tifffile.COMPRESSION.JPEG2000,
    tifffile.COMPRESSION.APERIO_JP2000_YCBC,
    tifffile.COMPRESSION.JPEG_2000_LOSSY,
    tifffile.COMPRESSION.APERIO_JP2000_RGB,
)
# Other codecs decide by themselves how much they write.
_KNOWN_COMPRESSIONS = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.ZSTD,
    *_JPEG,
    *_JPEG_2000,
)
#: Compressions whose data name a size of their own, see :func:`check_part`.
SELF_SIZED = (*_JPEG, *_JPEG_2000)
_CODESTREAMS = ("JPEG", "JPEG2000")
_MICROMETRES = {
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "\\u00B5m": 1.0,  # as ImageJ writes it
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25_400.0,
}
_OF_UNIT_TAG = {2: 25_400.0, 3: 10_000.0}
#: Sizes of a pixel in µm that a microscope can have, from a 100x oil lens to a 1x
#: overview. A resolution tag beyond is that of a screen: 72 dpi would be 353 µm.
PLAUSIBLE_MPP = 0.02, 20.0
# The sides of a pixel may differ by this share and still be one number.
_TOLERANCE = 0.01


def is_tiff(path: str | Path) -> bool:
    """Whether a file's name says that it is a TIFF."""
    return Path(path).suffix.lower() in (*TIFF_SUFFIXES, _SLIDE_SUFFIX)


@contextmanager
def open_tiff(path: str | Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF.

    Raises:
        InputError: Anything fails inside the ``with``: tifffile raises many types of
            exceptions on broken files, at any step.
    """
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, *MISSING) from None
    except Exception as error:
        raise InputError(path, f"not a readable TIFF ({error})", EXPORT_AGAIN) from None


def page_numbers(path: str | Path) -> list[int]:
    """The pages of a file that are images of their own.

    Levels of a pyramid are not, nor are a slide's thumbnail, label and macro. A file
    that cannot be read has one page, and the error when it is read.
    """
    if not is_tiff(path):
        return [0]
    try:
        with open_tiff(path) as file:
            check_no_stack(path, file)
            return [levels[0].index for levels in images_of(file)] or [0]
    except InputError:
        return [0]


def images_of(file: tifffile.TiffFile) -> list[list[tifffile.TiffPage]]:
    """The images of a TIFF, each as its levels, largest first."""
    if len(file.pages) == 1 and not file.pages[0].subifds:
        return [[file.pages[0]]]
    if file.is_svs or (file.is_scn and file.series):
        return [_levels(file.series[0])]
    images: list[list[tifffile.TiffPage]] = []
    for page in file.pages[:_MAX_PAGES]:
        page = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
        smaller = bool(images) and _is_level(page, images[-1][-1])
        if smaller:
            images[-1].append(page)
        elif not (images and page.is_reduced):  # a thumbnail
            images.append([page, *(_sub_levels(page))])
    return images


def _sub_levels(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """The levels that a page holds in SubIFDs, as OME-TIFF does."""
    levels = [page]
    for sub in page.pages or ():
        if _is_level(sub, levels[-1]):
            levels.append(sub)
    return levels[1:]


def _levels(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """The levels of a pyramid that show the same as the first, each smaller."""
    pages = [level.keyframe for level in series.levels]
    levels = pages[:1]
    for page in pages[1:]:
        if _is_level(page, levels[-1]):
            levels.append(page)
    return levels


def _is_level(page: tifffile.TiffPage, larger: tifffile.TiffPage) -> bool:
    """Whether a page is another, divided by 1.5 or more, up to rounding."""
    factor = larger.imagelength / max(page.imagelength, 1)
    # Scanners cut the last row and column of their tiles: a few pixels are allowed.
    slack = 1 + 1 / factor + 0.002 * page.imagewidth
    return factor >= 1.5 and abs(larger.imagewidth / factor - page.imagewidth) <= slack


def check_no_stack(path: str | Path, file: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose pages are the planes or channels of one image.

    Raises:
        InputError: OME or ImageJ metadata name several, or a page is a volume.
    """
    planes = channels = 1
    samples = max(file.pages[0].samplesperpixel, 1)
    if file.is_ome:
        images = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        for image in images if isinstance(images, list) else [images]:
            pixels = image["Pixels"]
            planes = max(planes, int(pixels.get("SizeZ", 1)))
            channels = max(channels, int(pixels.get("SizeC", 1)) // samples)
    elif file.is_imagej and file.imagej_metadata:
        planes = int(file.imagej_metadata.get("slices", 1))
        channels = int(file.imagej_metadata.get("channels", 1)) // samples
    planes = max(planes, int(file.pages[0].imagedepth))
    for count, what in ((planes, "planes in depth"), (channels, "channels")):
        if count > 1:
            raise InputError(
                path,
                f"a stack of {count} {what}, not one RGB or gray image",
                "Save what is to be used as an RGB image of 8 bits",
            )


def check_page(path: str | Path, page: tifffile.TiffPage, max_pixels: int) -> None:
    """Refuse a page of which parts are missing or that no memory would hold.

    Only the header is read.

    Raises:
        InputError: The page is truncated, too large, without pixels, or compressed by
            an unknown codec.
    """
    size = page.parent.filehandle.size
    parts = zip(page.dataoffsets, page.databytecounts, strict=True)
    needed = max((offset + count for offset, count in parts), default=0)
    if needed > size or not page.dataoffsets:
        raise InputError(
            path,
            f"truncated: {size} bytes of at least {needed}",
            "Copy or download the file again",
        )
    if page.compression not in _KNOWN_COMPRESSIONS:
        raise InputError(
            path,
            f"compressed by {getattr(page.compression, 'name', page.compression)}",
            "Save it with LZW, deflate or no compression",
        )
    check_size(path, page.imagelength, page.imagewidth, max_pixels)
    part = math.prod(page.chunks)
    if page.size > 4 * max_pixels or (page.compression != 1 and part > _MAX_PART):
        raise InputError(
            path,
            f"it declares {page.size} values in parts of {part}",
            "Save it in tiles of 256x256 or 512x512 pixels",
        )
    count = math.prod(page.chunked)
    present = sum(length > 0 for length in page.databytecounts)
    if len(page.dataoffsets) != count or present != count:
        # tifffile fills what is missing with zeros.
        raise InputError(
            path, f"{present} of its {count} parts are there", EXPORT_AGAIN
        )


def check_size(path: str | Path, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image without pixels or with more of them than a limit.

    Raises:
        InputError: The image is empty or larger than ``max_pixels``.
    """
    if height < 1 or width < 1:
        raise InputError(
            path, f"{height}x{width} pixels are not an image", EXPORT_AGAIN
        )
    if height * width > max_pixels:
        raise InputError(
            path,
            f"{height}x{width} pixels are more than {max_pixels}",
            "Cut it into smaller images",
        )


def check_part(path: str | Path, page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a JPEG strip or tile that is larger than the page declares.

    Raises:
        InputError: Its own header says so.
    """
    if page.compression not in SELF_SIZED:
        return
    height, width = page.chunks[0], page.chunks[1]
    if page.planarconfig == 2:
        height, width = page.chunks[-3:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(io.BytesIO(data), formats=_CODESTREAMS) as image:
            declared = image.size[::-1]
    if declared[0] > height or declared[1] > width:
        raise InputError(
            path,
            f"a part of it declares {declared} pixels, not {(height, width)}",
            EXPORT_AGAIN,
        )


def check_colours(path: str | Path, page: tifffile.TiffPage) -> None:
    """Refuse a page that is neither RGB nor gray, such as CMYK.

    Raises:
        InputError: Its photometric interpretation is another one.
    """
    # JPEG-compressed YCbCr comes out of tifffile as RGB.
    from_jpeg = page.photometric.name == "YCBCR" and page.compression in _JPEG
    if page.photometric.name not in ("MINISBLACK", "RGB") and not from_jpeg:
        raise InputError(
            path,
            f"its colours are stored as {page.photometric.name}",
            "Save it as RGB, or as gray with 0 for black",
        )


def pixel_size(path: str | Path, page: int = 0) -> float | None:
    """The side of a pixel in µm, see :func:`stored_pixel_size`; None if unknown."""
    if not is_tiff(path):  # the resolution in a PNG or JPEG is that of a screen
        return None
    try:
        with open_tiff(path) as file:
            return stored_pixel_size(file, page)[0]
    except InputError:  # the pixels say whether the file is bad
        return None


def stored_pixel_size(file: tifffile.TiffFile, number: int) -> tuple[float | None, str]:
    """The side of a pixel in µm, and what is wrong with a size that cannot be used.

    In this order: Aperio's ``MPP``, OME's ``PhysicalSizeX`` and ``Y``, ImageJ's unit
    with the resolution tags, and the resolution tags alone if they are in inches or
    centimetres. The size of pixels that are not square is unknown.

    Args:
        file: The TIFF.
        number: Of the page.

    Returns:
        None unless it lies in :data:`PLAUSIBLE_MPP`. The text is empty where the file
        does not name a size at all.
    """
    try:
        sides = _sides(file, number)
    except Exception:  # metadata are optional, and programs write anything
        return None, "" if not _aperio_mpp(file) else "its MPP is not a number"
    if sides is None:
        return None, ""
    x, y = sides
    low, high = PLAUSIBLE_MPP
    if not all(math.isfinite(side) and low <= side <= high for side in sides):
        return None, f"its pixel size of {x:g} x {y:g} µm is not possible"
    if abs(x / y - 1) > _TOLERANCE:
        return None, f"its pixels of {x:g} x {y:g} µm are not square"
    return math.sqrt(x * y), ""


def _aperio_mpp(file: tifffile.TiffFile) -> str | None:
    if not file.is_svs:
        return None
    match = re.search(r"\bMPP\s*=\s*([^|]*)", file.pages[0].description)
    return match and match[1].strip()


def _sides(file: tifffile.TiffFile, number: int) -> tuple[float, float] | None:
    page = file.pages[number]
    if file.is_svs:
        if (text := _aperio_mpp(file)) is None:
            return None
        first = file.pages[0]
        # The number is that of the first page; of the label it is not.
        if number and not (page.is_tiled and _is_level(page, first)):
            return None
        return (float(text) * first.imagewidth / page.imagewidth,) * 2
    if file.is_ome:
        images = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        images = images if isinstance(images, list) else [images]
        pixels = images[number if len(images) > number else 0]["Pixels"]
        x, y = (
            float(pixels[f"PhysicalSize{axis}"])
            * _MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
        return x, y
    counts = [page.tags[name].value for name in ("XResolution", "YResolution")]
    x, y = (denominator / numerator for numerator, denominator in counts)
    if file.is_imagej and (unit := (file.imagej_metadata or {}).get("unit")):
        return x * _MICROMETRES[unit], y * _MICROMETRES[unit]
    scale = _OF_UNIT_TAG[int(page.tags["ResolutionUnit"].value)]
    low, high = PLAUSIBLE_MPP
    return (x * scale, y * scale) if low <= x * scale <= high else None
