"""Contents of a TIFF: images, levels of their pyramids; what is refused."""

from __future__ import annotations

import io
import math
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
COPY_AGAIN = "Copy or download the file again"
EXPORT_AGAIN = "Export the file again, or take it out of the data set"
MISSING = "the file does not exist", "Check the data root and the name"
# Sizes are checked before pixels are decoded: a file of a few bytes can declare more
# than any memory holds. This many are a square of 11,585 pixels.
MAX_PIXELS = 1 << 27
# Of an image that is read by rectangles; a whole slide has 2^34 or so.
MAX_SLIDE_PIXELS = 1 << 40
# Values in a strip or tile that is decoded at once.
_MAX_PART = 1 << 31
_MAX_PAGES = 100_000
_JPEG = tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG
#: Compressions whose data name a size of their own, see :func:`check_part`.
SELF_SIZED = (
    *_JPEG,
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
    *SELF_SIZED,
)


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


def images_of(file: tifffile.TiffFile) -> list[list[tifffile.TiffPage]]:
    """The images of a TIFF, each as the levels of its pyramid, largest first.

    A level follows a larger page or lies in its SubIFDs. Other reduced pages and a
    slide's thumbnail, label and macro are left out.
    """
    if len(file.pages) == 1 and not file.pages[0].subifds:
        return [[file.pages[0]]]
    images: list[list[tifffile.TiffPage]] = []
    for page in file.pages[:_MAX_PAGES]:
        page = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
        if file.is_svs and images and not page.is_tiled:
            continue
        for part in (page, *(page.pages or ())):
            if images and _is_level(part, images[-1][-1]):
                images[-1].append(part)
            elif not (part.is_subifd or (images and part.is_reduced)):
                images.append([part])
    return images[:1] if file.is_svs else images


def _is_level(page: tifffile.TiffPage, larger: tifffile.TiffPage) -> bool:
    """Whether a page is another, divided by 1.5 or more, up to rounding."""
    factor = larger.imagelength / max(page.imagelength, 1)
    # Scanners cut the last row and column of their tiles: a few pixels are allowed.
    slack = 1 + 1 / factor + 0.002 * page.imagewidth
    return factor >= 1.5 and abs(larger.imagewidth / factor - page.imagewidth) <= slack


def levels_of(
    path: str | Path, file: tifffile.TiffFile, number: int | None = None
) -> list[tifffile.TiffPage]:
    """The levels of one image of a TIFF, largest first.

    Raises:
        InputError: The file is a stack; it is several images and no number is given; or
            the page of that number is not an image of its own.
    """
    check_no_stack(path, file)
    images = images_of(file)
    if number is None and len(images) > 1:
        raise InputError(
            path,
            f"holds {len(images)} images, expected one",
            "Save each as a file of its own",
        )
    for levels in images:
        if number in (None, levels[0].index):
            return levels
    raise InputError(
        path,
        f"page {number} is not an image of its own",
        f"Those are {', '.join(str(levels[0].index) for levels in images)}",
    )


def check_no_stack(path: str | Path, file: tifffile.TiffFile) -> None:
    """Raise :class:`InputError` for planes in depth or channels stored as pages."""
    first = file.pages[0]
    planes, channels = [int(first.imagedepth)], [1]
    if file.is_ome:
        for image in ome_images(file):
            planes.append(int(image.get("SizeZ", 1)))
            channels.append(int(image.get("SizeC", 1)))
    elif file.is_imagej and file.imagej_metadata:
        planes.append(int(file.imagej_metadata.get("slices", 1)))
        channels.append(int(file.imagej_metadata.get("channels", 1)))
    samples = max(first.samplesperpixel, 1)
    for count, what in (
        (max(planes), "planes in depth"),
        (max(channels) // samples, "channels"),
    ):
        if count > 1:
            raise InputError(
                path,
                f"a stack of {count} {what}, not one RGB or gray image",
                "Save what is to be used as an RGB image of 8 bits",
            )


def ome_images(file: tifffile.TiffFile) -> list[dict]:
    """OME's metadata of the pixels of each image."""
    images = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    return [i["Pixels"] for i in (images if isinstance(images, list) else [images])]


def check_page(
    path: str | Path, page: tifffile.TiffPage, max_pixels: int = MAX_PIXELS
) -> None:
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
            path, f"truncated: {size} bytes of at least {needed}", COPY_AGAIN
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


def check_size(
    path: str | Path, height: int, width: int, max_pixels: int = MAX_PIXELS
) -> None:
    """Raise :class:`InputError` for an image without pixels or with too many."""
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
    """Raise :class:`InputError` for a JPEG tile larger than its page declares."""
    if page.compression not in SELF_SIZED:
        return
    height, width = page.chunks[-3:-1] if page.planarconfig == 2 else page.chunks[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000")) as image:
            declared = image.size[::-1]
    if declared[0] > height or declared[1] > width:
        raise InputError(
            path,
            f"a part of it declares {declared} pixels, not {(height, width)}",
            EXPORT_AGAIN,
        )


def check_colours(path: str | Path, page: tifffile.TiffPage) -> None:
    """Raise :class:`InputError` for a page that is not RGB or gray, such as CMYK."""
    # JPEG-compressed YCbCr comes out of tifffile as RGB.
    from_jpeg = page.photometric.name == "YCBCR" and page.compression in _JPEG
    if page.photometric.name not in ("MINISBLACK", "RGB") and not from_jpeg:
        raise InputError(
            path,
            f"its colours are stored as {page.photometric.name}",
            "Save it as RGB, or as gray with 0 for black",
        )
