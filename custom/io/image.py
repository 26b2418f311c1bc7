"""Reading images and label images, with one clear error for what cannot be read."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import PIL.Image
import tifffile

from custom.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
MAX_INSTANCES = 65_535
# Sizes are checked before pixels are decoded: a file of a few bytes can declare more
# than any memory holds. This many are a square of 11,585 pixels.
MAX_PIXELS = 1 << 27
_EXPORT_AGAIN = "Export the file again, or take it out of the data set"
_CUT = "Cut it into smaller images"
_MISSING = "the file does not exist", "Check the data root and the name"
# Aperio's scanner files are TIFF: the slide, then a thumbnail, a label and a macro.
_SLIDE_SUFFIX = ".svs"
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
_OTHER_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "PPM", "WEBP")


def is_tiff(path: str | Path) -> bool:
    """Whether a file's name says that it is a TIFF."""
    return Path(path).suffix.lower() in (*TIFF_SUFFIXES, _SLIDE_SUFFIX)


@contextmanager
def tiff_page(
    path: str | Path, max_pixels: int = MAX_PIXELS, number: int | None = None
) -> Iterator[tifffile.TiffPage]:
    """Open a page of a TIFF whose pixel data is all there.

    Args:
        path: The TIFF.
        max_pixels: A page with more is refused.
        number: Of the page, from 0. None: the file is one image, which only smaller
            levels of a pyramid may follow.

    Whatever fails inside the ``with`` becomes an :class:`InputError`: tifffile lets
    many types of exceptions through on broken files, at any step.
    """
    try:
        with tifffile.TiffFile(path) as file:
            check_no_stack(path, file)
            page = file.pages[number or 0]
            if (
                number is None
                and len(file.pages) > 1
                and page.shape == file.pages[1].shape
                and not file.is_svs
            ):
                raise InputError(
                    path,
                    f"holds {len(file.pages)} pages, expected one image",
                    "Save each page as a file of its own",
                )
            parts = zip(page.dataoffsets, page.databytecounts, strict=True)
            needed = max((offset + count for offset, count in parts), default=0)
            if needed > file.filehandle.size or not page.dataoffsets:
                raise InputError(
                    path,
                    f"truncated: {file.filehandle.size} bytes of at least {needed}",
                    "Copy or download the file again",
                )
            _check_declared(path, page, max_pixels)
            yield page
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, *_MISSING) from None
    except Exception as error:
        raise InputError(
            path, f"not a readable TIFF ({error})", _EXPORT_AGAIN
        ) from None


def _check_declared(path: str | Path, page: tifffile.TiffPage, max_pixels: int) -> None:
    """Refuse a page that would not fit into memory, or of which parts are missing."""
    if page.compression not in _KNOWN_COMPRESSIONS:
        raise InputError(
            path,
            f"compressed by {getattr(page.compression, 'name', page.compression)}",
            "Save it with LZW, deflate or no compression",
        )
    check_size(path, page.imagelength, page.imagewidth, max_pixels)
    tile = page.tilelength * page.tilewidth * page.tiledepth if page.is_tiled else 0
    if page.size > 4 * max_pixels or tile > MAX_PIXELS:
        raise InputError(path, f"it declares {page.size} values", _CUT)
    parts = math.prod(page.chunked)
    present = sum(count > 0 for count in page.databytecounts)
    if len(page.dataoffsets) != parts or present != parts:
        # tifffile fills what is missing with zeros.
        raise InputError(
            path, f"{present} of its {parts} parts are there", _EXPORT_AGAIN
        )
    if page.compression in (*_JPEG, *_JPEG_2000):
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        width = page.tilewidth if page.is_tiled else page.imagewidth
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            page.parent.filehandle.seek(offset)
            found = _declared_size(page.parent.filehandle.read(count))
            if found[0] > height or found[1] > width:
                raise InputError(
                    path,
                    f"a part of it declares {found} pixels, not {(height, width)}",
                    _EXPORT_AGAIN,
                )


def check_no_stack(path: str | Path, file: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose pages are the planes or channels of one image.

    Raises:
        InputError: OME or ImageJ say that it is so, or a page is a volume.
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


def check_size(
    path: str | Path, height: int, width: int, max_pixels: int = MAX_PIXELS
) -> None:
    """Refuse an image without pixels or with more of them than a limit.

    Raises:
        InputError: It is so.
    """
    if height < 1 or width < 1:
        raise InputError(path, f"{height}x{width} pixels are no image", _EXPORT_AGAIN)
    if height * width > max_pixels:
        raise InputError(
            path, f"{height}x{width} pixels are more than {max_pixels}", _CUT
        )


def _declared_size(data: bytes) -> tuple[int, int]:
    """(H, W) in the header of an encoded image that is no TIFF."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(io.BytesIO(data), formats=_OTHER_FORMATS) as image:
            width, height = image.size
    return height, width


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image; for a TIFF only its header is read.

    Raises:
        InputError: The file is missing, truncated or no image.
    """
    if not is_tiff(path):
        return read_image(path).shape[:2]
    with tiff_page(path) as page:
        return int(page.imagelength), int(page.imagewidth)


def read_image(path: str | Path, max_value: int = 65_535) -> np.ndarray:
    """Read an image as 8-bit RGB.

    Alpha is dropped and gray is repeated.

    Args:
        path: TIFF, Aperio's .svs (its first level), PNG, JPEG, JPEG 2000, BMP, PPM or
            WebP.
        max_value: The value of a 16-bit image that becomes 255: ``min(value,
            max_value) * 255 / max_value``, rounded. Scanners with 12 bits write up
            to 4095.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file is missing, truncated, no image, larger than 2^27 pixels,
            or of another type than 8 or 16 bits unsigned with 1 to 4 channels, RGB or
            gray.
    """
    if is_tiff(path):
        with tiff_page(path) as page:
            check_colours(path, page)
            if _for_libtiff(page):
                image = imagecodecs.tiff_decode(Path(path).read_bytes())
            else:
                image = page.asarray()
                if page.axes == "SYX":
                    image = np.moveaxis(image, 0, -1)
    else:
        image = read_bitmap(path)
    return as_rgb(path, image, max_value)


def _for_libtiff(page: tifffile.TiffPage) -> bool:
    """Whether libtiff reads a page twice as fast as tifffile does: LZW.

    Only of the plain kind that people export, a file of its own.
    """
    return (
        page.compression == tifffile.COMPRESSION.LZW
        and page.axes in ("YX", "YXS")
        and page.dtype in (np.uint8, np.uint16)
        and not page.is_tiled
        and len(page.parent.pages) == 1
    )


def check_colours(path: str | Path, page: tifffile.TiffPage) -> None:
    """Refuse a page that is neither RGB nor gray.

    Raises:
        InputError: It is so.
    """
    # JPEG-compressed YCbCr comes out of tifffile as RGB.
    from_jpeg = page.photometric.name == "YCBCR" and page.compression in _JPEG
    if page.photometric.name not in ("MINISBLACK", "RGB") and not from_jpeg:
        raise InputError(
            path,
            f"its colours are stored as {page.photometric.name}",
            "Save it as RGB, or as gray with 0 for black",
        )


def as_rgb(path: str | Path, image: np.ndarray, max_value: int = 65_535) -> np.ndarray:
    """Make pixels 8-bit RGB, see :func:`read_image`.

    Args:
        path: Where they are from.
        image: (H, W) or (H, W, 1 to 4), uint8 or uint16.
        max_value: The value of a 16-bit image that becomes 255.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise InputError(
            path,
            f"shape {image.shape} is not an image of 1 to 4 channels",
            _EXPORT_AGAIN,
        )
    if image.dtype == np.uint16:
        scaled = np.minimum(image, max_value).astype(np.float32) * (255 / max_value)
        image = np.rint(scaled).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InputError(
            path,
            f"pixels are {image.dtype}, not 8 or 16 bits unsigned",
            "Convert the image to 8 bits",
        )
    if image.shape[2] <= 2:  # gray, gray with alpha
        return np.repeat(image[:, :, :1], 3, axis=2)
    if image.shape[2] == 4:  # several times faster than a slice and a copy
        return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)
    return np.ascontiguousarray(image)


def read_bitmap(path: str | Path) -> np.ndarray:
    """Read what is no TIFF, as it is.

    Returns:
        (H, W) gray or (H, W, 3 or 4) RGB(A), of the type that the file has.

    Raises:
        InputError: The file is missing, truncated, no image or too large.
    """
    try:
        data = Path(path).read_bytes()
        check_size(path, *_declared_size(data))
        # libjpeg fills what is missing with gray. The last scan must have an end.
        if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(
            b"\xff\xda"
        ):
            raise InputError(path, "truncated", "Copy or download the file again")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, *_MISSING) from None
    except PIL.Image.DecompressionBombError:  # beyond its own limit, which is higher
        raise InputError(path, f"more than {MAX_PIXELS} pixels", _CUT) from None
    except PIL.UnidentifiedImageError:
        raise InputError(path, "not a readable image", _EXPORT_AGAIN) from None
    except Exception as error:  # Pillow lets many types through, as tifffile does
        raise InputError(
            path, f"not a readable image ({error})", _EXPORT_AGAIN
        ) from None
    if image is None:
        raise InputError(path, "not a readable image", _EXPORT_AGAIN)
    if image.ndim == 3:
        image[:, :, :3] = image[:, :, 2::-1].copy()  # OpenCV reads BGR(A)
    return image


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image: 0 is background, any other number is one instance.

    Args:
        path: A TIFF of one channel, of any number type (the released ones are
            float64), or a gray PNG of 8 or 16 bits.

    Returns:
        (H, W) int32.

    Raises:
        InputError: The file is missing, truncated, has several channels, or see
            :func:`as_labels`.
    """
    if not is_tiff(path):
        return as_labels(path, read_bitmap(path))
    with tiff_page(path) as page:
        image = page.asarray()
    return as_labels(path, image)


def as_labels(path: str | Path, image: np.ndarray) -> np.ndarray:
    """Check the values of a label image.

    Args:
        path: Where it is from.
        image: (H, W) of any number type.

    Returns:
        (H, W) int32.

    Raises:
        InputError: It has another shape or type, or holds numbers that are fractions,
            negative, NaN or above 2^31 - 1.
    """
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise InputError(
            path,
            f"shape {image.shape} of {image.dtype} is not a label image, which has one "
            "channel of numbers",
            "Save one number per pixel: the id of its instance",
        )
    labels = np.empty(image.shape, np.int32)
    whole = True
    # In bands that stay in the processor's cache, which takes two thirds of the time.
    rows = max(1, 65_536 // max(1, image.shape[1]))
    for start in range(0, len(image), rows):
        band = np.s_[start : start + rows]
        with np.errstate(invalid="ignore"):
            labels[band] = image[band]
        part = labels[band]
        whole &= np.array_equal(part, image[band]) and part.min(initial=0) >= 0
    if not whole:
        raise InputError(path, _describe(image), "Ids must be integers from 1 on")
    return labels


def _describe(image: np.ndarray) -> str:
    """What is wrong with the values of a label image."""
    if np.isnan(image).any():
        return f"{int(np.isnan(image).sum())} label values are NaN"
    if (image < 0).any():
        return f"label values are negative, down to {image.min()}"
    if (image > np.iinfo(np.int32).max).any():
        return f"label values go up to {image.max()}, above 2^31 - 1"
    fractions = image[image != np.floor(image)]
    return f"label values are not integers, for example {fractions.flat[0]}"


def check_labels(path: str | Path, size: tuple[int, int]) -> int:
    """Check one label image against its image and count its instances.

    Args:
        path: See :func:`read_labels`.
        size: (H, W) of the image.

    Raises:
        InputError: As :func:`read_labels`, or the sizes differ, or there are more
            than 65,535 instances.
    """
    labels = read_labels(path)
    if labels.shape != tuple(size):
        raise InputError(
            path,
            f"its size (H, W) is {labels.shape}, its image's is {tuple(size)}",
            "Label image and image must show the same pixels",
        )
    top = int(labels.max(initial=0))
    if top <= 1 << 22:
        count = int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    else:
        count = int(np.count_nonzero(np.unique(labels)))
    if count > MAX_INSTANCES:
        raise InputError(
            path,
            f"{count} different ids, at most {MAX_INSTANCES} are possible",
            "Is this an image instead of a label image?",
        )
    return count
