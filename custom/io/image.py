"""Read images and label images; unreadable files raise one clear error."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import PIL.Image
import tifffile

from custom.errors import InputError
from custom.io.tiff import (
    COPY_AGAIN,
    EXPORT_AGAIN,
    MAX_PIXELS,
    MISSING,
    SELF_SIZED,
    check_colours,
    check_page,
    check_part,
    check_size,
    is_tiff,
    levels_of,
    open_tiff,
)

MAX_INSTANCES = 65_535
# Files are never given to parsers of other formats.
BITMAP_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "PPM", "WEBP")
_ORIENTATION = 0x0112
_SAME_PIXELS = "Label image and image must show the same pixels"


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image; pixels are not decoded.

    Raises:
        InputError: The file is missing, truncated or not an image.
    """
    if not is_tiff(path):
        return _read_bytes(path)[1]
    with open_tiff(path) as file:
        page = _only_page(path, file)
        return int(page.imagelength), int(page.imagewidth)


def read_image(path: str | Path, max_value: int = 65_535) -> np.ndarray:
    """Read an image as 8-bit RGB: alpha is dropped, gray is repeated.

    Args:
        path: TIFF, Aperio's .svs (its first level), PNG, JPEG, JPEG 2000, BMP, PPM or
            WebP.
        max_value: The value of a 16-bit image that becomes 255: ``min(value,
            max_value) * 255 / max_value``, rounded. Scanners with 12 bits write up
            to 4095.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file is missing, truncated, not an image, larger than 2^27
            pixels, or of another type than 8 or 16 bits unsigned with 1 to 4 channels,
            RGB or gray.
    """
    if not is_tiff(path):
        return as_rgb(path, read_bitmap(path), max_value)
    with open_tiff(path) as file:
        page = _only_page(path, file)
        check_colours(path, page)
        return as_rgb(path, _decode(path, page), max_value)


def _only_page(path: str | Path, file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The first level of a file that is one image, checked; see ``levels_of``."""
    page = levels_of(path, file)[0]
    check_page(path, page)
    return page


def _decode(path: str | Path, page: tifffile.TiffPage) -> np.ndarray:
    """(H, W) or (H, W, channels), the pixels of a page."""
    file = page.parent.filehandle
    # libtiff reads LZW twice as fast as tifffile; only the plain kind that people
    # export, a file of its own.
    if (
        page.compression == tifffile.COMPRESSION.LZW
        and page.axes in ("YX", "YXS")
        and page.dtype in (np.uint8, np.uint16)
        and not page.is_tiled
        and len(page.parent.pages) == 1
    ):
        return imagecodecs.tiff_decode(Path(path).read_bytes())
    if page.compression in SELF_SIZED:
        for part in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(part[0])
            check_part(path, page, file.read(part[1]))
    image = page.asarray()
    return np.moveaxis(image, 0, -1) if page.axes == "SYX" else image


def as_rgb(path: str | Path, image: np.ndarray, max_value: int = 65_535) -> np.ndarray:
    """Pixels, (H, W) or (H, W, 1 to 4), as 8-bit RGB: see :func:`read_image`."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise InputError(
            path,
            f"shape {image.shape} is not an image of 1 to 4 channels",
            EXPORT_AGAIN,
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
    """The pixels of an image that is not a TIFF, turned as its EXIF tag says.

    Returns:
        (H, W) gray or (H, W, 3) RGB, of the type that the file has.

    Raises:
        InputError: The file is missing, truncated, not an image or too large.
    """
    data = np.frombuffer(_read_bytes(path)[0], np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(path, "not a readable image", EXPORT_AGAIN)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_bytes(path: str | Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of an encoded image and its (H, W), turned as its EXIF tag says."""
    try:
        data = Path(path).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(data), formats=BITMAP_FORMATS) as image:
                size = image.size[::-1]
                # image.getexif() would decode a PNG.
                exif = PIL.Image.Exif()
                exif.load(image.info.get("exif"))
    except FileNotFoundError:
        raise InputError(path, *MISSING) from None
    except PIL.Image.DecompressionBombError:  # beyond its own limit, which is higher
        raise InputError(
            path, f"more than {MAX_PIXELS} pixels", "Cut it into smaller images"
        ) from None
    except Exception as error:  # Pillow raises many types, as tifffile does
        words = "" if isinstance(error, PIL.UnidentifiedImageError) else f" ({error})"
        raise InputError(path, f"not a readable image{words}", EXPORT_AGAIN) from None
    check_size(path, *size)
    # libjpeg fills what is missing with gray: the last scan must have an end.
    jpeg = data[:2] == b"\xff\xd8"
    if (jpeg and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")) or (
        data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]
    ):
        raise InputError(path, "truncated", COPY_AGAIN)
    return data, size[::-1] if exif.get(_ORIENTATION, 1) in (5, 6, 7, 8) else size


def read_instances(
    files: Sequence[Path], size: tuple[int, int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (y, x, (h, w) bool mask) of bitmaps of one instance each, cut to it.

    Decodes in threads, a few files ahead of what is taken.

    Args:
        files: One channel each; any value but 0 is the instance.
        size: (H, W) of the image.

    Raises:
        InputError: A file is not readable, has another size or several channels, is
            empty, or holds more than one value besides 0.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(_read_instance, size=size), files)


def _read_instance(path: Path, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    bitmap = read_bitmap(path)
    if bitmap.shape != tuple(size):
        raise InputError(
            path,
            f"its shape is {bitmap.shape}, expected is one channel of the image's "
            f"size {tuple(size)}",
            _SAME_PIXELS,
        )
    x, y, width, height = cv2.boundingRect((bitmap > 0).astype(np.uint8))
    window = bitmap[y : y + height, x : x + width]
    mask = window > 0
    if not mask.any():
        raise InputError(path, "it is empty", "Remove the file")
    if (window[mask] != window[mask][0]).any():
        raise InputError(
            path,
            f"it holds {len(np.unique(window[mask]))} different values besides 0",
            "Save each instance in a file of its own, as 0 and 255",
        )
    return y, x, mask


def read_labels(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a label image: 0 is background, any other number is one instance.

    Args:
        path: A TIFF of one channel, of any number type (the released ones are
            float64), or a gray PNG of 8 or 16 bits.
        size: (H, W) of its image, if known.

    Returns:
        (H, W) int32.

    Raises:
        InputError: The file is missing, truncated, has several channels, or see
            :func:`as_labels`.
    """
    if not is_tiff(path):
        return as_labels(path, read_bitmap(path), size)
    with open_tiff(path) as file:
        return as_labels(path, _decode(path, _only_page(path, file)), size)


def as_labels(
    path: str | Path, image: np.ndarray, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The (H, W) int32 labels of an image of any number type, checked.

    Raises:
        InputError: The array has another shape or type, another size than ``size``, or
            holds values that are fractions, negative, NaN or above 2^31 - 1.
    """
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise InputError(
            path,
            f"shape {image.shape} of {image.dtype} is not a label image, which has one "
            "channel of numbers",
            "Save one number per pixel: the id of its instance",
        )
    if size is not None and image.shape != tuple(size):
        raise InputError(
            path,
            f"its size (H, W) is {image.shape}, its image's is {tuple(size)}",
            _SAME_PIXELS,
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
    """The error in the values of a label image."""
    if np.isnan(image).any():
        return f"{int(np.isnan(image).sum())} label values are NaN"
    if (image < 0).any():
        return f"label values are negative, down to {image.min()}"
    if (image > np.iinfo(np.int32).max).any():
        return f"label values go up to {image.max()}, above 2^31 - 1"
    fractions = image[image != np.floor(image)]
    return f"label values are not integers, for example {fractions.flat[0]}"


def check_labels(path: str | Path, size: tuple[int, int]) -> int:
    """Read a label image of an image of (H, W) ``size``; the number of its instances.

    Raises:
        InputError: See :func:`read_labels`, or there are more than 65,535 instances.
    """
    labels = read_labels(path, size)
    top = int(labels.max(initial=0))
    if top <= 1 << 22:
        count = int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    else:
        count = int(np.count_nonzero(np.unique(labels)))
    if count > MAX_INSTANCES:
        raise InputError(
            path,
            f"{count} different ids, at most {MAX_INSTANCES} are possible",
            "Check that this is a label image, not an image",
        )
    return count
