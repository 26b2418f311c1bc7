"""Reading images and label images, with one clear error for what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
MAX_INSTANCES = 65_535
_EXPORT_AGAIN = "Export the file again, or take it out of the data set"
_MISSING = "the file does not exist", "Check the data root and the name"
_JPEG = tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG


@contextmanager
def _tiff_page(path: str | Path) -> Iterator[tifffile.TiffPage]:
    """Open a one-page TIFF whose pixel data is all there.

    Whatever fails inside the ``with`` becomes an :class:`InputError`: tifffile lets
    many types of exceptions through on broken files, at any step.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if len(file.pages) > 1 and page.shape == file.pages[1].shape:
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
            yield page
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, *_MISSING) from None
    except Exception as error:
        raise InputError(
            path, f"not a readable TIFF ({error})", _EXPORT_AGAIN
        ) from None


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image; for a TIFF only its header is read.

    Raises:
        InputError: The file is missing, truncated or no image.
    """
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        return read_image(path).shape[:2]
    with _tiff_page(path) as page:
        return int(page.imagelength), int(page.imagewidth)


def read_image(path: str | Path, max_value: int = 65_535) -> np.ndarray:
    """Read an image as 8-bit RGB.

    Alpha is dropped and gray is repeated.

    Args:
        path: TIFF, PNG, JPEG or whatever OpenCV reads.
        max_value: The value of a 16-bit image that becomes 255: ``min(value,
            max_value) * 255 / max_value``, rounded. Scanners with 12 bits write up
            to 4095.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file is missing, truncated, no image, or of another type than
            8 or 16 bits unsigned with 1 to 4 channels, RGB or gray.
    """
    if Path(path).suffix.lower() in TIFF_SUFFIXES:
        with _tiff_page(path) as page:
            # JPEG-compressed YCbCr comes out of tifffile as RGB.
            from_jpeg = page.photometric.name == "YCBCR" and page.compression in _JPEG
            if page.photometric.name not in ("MINISBLACK", "RGB") and not from_jpeg:
                raise InputError(
                    path,
                    f"its colours are stored as {page.photometric.name}",
                    "Save it as RGB, or as gray with 0 for black",
                )
            image = page.asarray()
            if page.axes == "SYX":
                image = np.moveaxis(image, 0, -1)
    else:
        image = _read_other(path)
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


def _read_other(path: str | Path) -> np.ndarray:
    """Read what is no TIFF: (H, W) gray or (H, W, 3 or 4) RGB(A)."""
    try:
        data = np.fromfile(path, np.uint8)
        # OpenCV raises on no bytes at all and returns None on wrong ones.
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except FileNotFoundError:
        raise InputError(path, *_MISSING) from None
    except (OSError, cv2.error) as error:
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
            float64).

    Returns:
        (H, W) int32.

    Raises:
        InputError: The file is missing, truncated, has several channels, or holds
            numbers that are fractions, negative, NaN or above 2^31 - 1.
    """
    with _tiff_page(path) as page:
        image = page.asarray()
    if image.ndim != 2:
        raise InputError(
            path,
            f"shape {image.shape} is not a label image, which has one channel",
            "Save one number per pixel: the id of its instance",
        )
    with np.errstate(invalid="ignore"):
        labels = image.astype(np.int32)
    narrow = image.dtype.kind in "bui" and image.dtype.itemsize <= 2
    if not narrow and not np.array_equal(labels, image):
        raise InputError(path, _describe(image), "Ids must be integers from 1 on")
    if labels.size and labels.min() < 0:
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
