"""Contours of cells on their image, with a legend and a scale bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

if TYPE_CHECKING:
    from custom.inference.segmentation import Segmentation
    from custom.io.pixels import Pixels

MAX_SIDE = 8192
# Pixels that are read at once when an image is drawn smaller.
_BAND_PIXELS = 1 << 25
# Pillow's own font has no µ.
_FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
_WHITE, _PANEL = (255, 255, 255), (0, 0, 0, 176)
# The bar is the longest nice length up to this share of the width.
_BAR_SHARE = 0.25
_SMALLEST = 160
_THICKNESS = 2


def draw_contours(
    image: np.ndarray, masks, labels, palette, thickness: int = 1
) -> np.ndarray:
    """Draw each mask's outline.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        masks: Masks of N instances with ``patches()``.
        labels: (N,) class of each instance.
        palette: RGB colour of each class.
        thickness: Of the line, in pixels.
    """
    drawn = np.ascontiguousarray(image.copy())
    for (y, x, patch), label in zip(masks.patches(), labels, strict=True):
        contours, _ = cv2.findContours(
            patch.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        color = tuple(int(c) for c in palette[int(label)])
        cv2.drawContours(drawn, contours, -1, color, thickness, offset=(x, y))
    return drawn


def draw_overlay(found: Segmentation, max_side: int = MAX_SIDE) -> np.ndarray:
    """See :meth:`Segmentation.overlay`."""
    scale = min(1.0, max_side / max(found.size))
    if scale == 1:
        picture = found.image.read(0, 0, *found.size)
    else:
        picture = read_smaller(found.image, scale)
    # The best on top, as in the label images.
    order = np.arange(len(found))[::-1]
    if scale == 1:
        masks, classes = found.masks[order], found.classes[order]
        picture = draw_contours(picture, masks, classes, found.palette, _THICKNESS)
    else:
        picture = np.ascontiguousarray(picture)
        for index in order:
            _draw_smaller(picture, found, int(index), scale)
    if min(picture.shape[:2]) < _SMALLEST:  # no room for words
        return picture
    return _annotate(picture, found, found.mpp and found.mpp / scale)


def read_smaller(image: Pixels, scale: float) -> np.ndarray:
    """An image at a scale below 1, read in bands of rows.

    Returns:
        (h, w, 3) uint8 RGB, the means of the pixels.
    """
    height, width = image.size
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    picture = np.empty((rows, columns, 3), np.uint8)
    step = max(1, int(_BAND_PIXELS * scale) // width)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        top, bottom = first * height // rows, -(-last * height // rows)
        band = image.read(top, 0, bottom, width)
        picture[first:last] = cv2.resize(
            band, (columns, last - first), interpolation=cv2.INTER_AREA
        )
    return picture


def _draw_smaller(
    picture: np.ndarray, found: Segmentation, index: int, scale: float
) -> None:
    y, x, patch = found.masks.patch(index)
    contours, _ = cv2.findContours(
        patch.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    corners = [((c + (x, y) + 0.5) * scale - 0.5).round() for c in contours]
    color = found.palette[found.classes[index]]
    cv2.polylines(
        picture, [c.astype(np.int32) for c in corners], True, tuple(map(int, color))
    )


def _annotate(
    picture: np.ndarray, found: Segmentation, mpp: float | None
) -> np.ndarray:
    """The picture with a legend and, if ``mpp`` is known, a scale bar."""
    canvas = PIL.Image.fromarray(picture)
    draw = PIL.ImageDraw.Draw(canvas, "RGBA")
    letters = int(np.clip(min(picture.shape[:2]) / 50, 12, 96))
    font = PIL.ImageFont.truetype(_FONT, letters)
    _draw_legend(draw, found, font)
    if mpp is not None:
        _draw_scale_bar(draw, canvas.size, mpp, font)
    return np.asarray(canvas)


def _draw_legend(draw, found: Segmentation, font) -> None:
    """Colour, class and count, on a dark panel in the upper left corner."""
    counts, line = found.counts(), font.size * 3 // 2
    texts = [f"{name}: {counts[name]}" for name in found.class_names]
    wide = max(draw.textlength(text, font) for text in texts)
    draw.rectangle((0, 0, 2 * line + wide, line * len(texts) + line // 2), _PANEL)
    for number, (text, color) in enumerate(zip(texts, found.palette, strict=True)):
        y = line // 4 + number * line
        box = line // 2, y + line // 4, line, y + 3 * line // 4
        draw.rectangle(box, tuple(map(int, color)))
        draw.text((1.5 * line, y + line / 2), text, _WHITE, font, anchor="lm")


def _draw_scale_bar(draw, size: tuple[int, int], mpp: float, font) -> None:
    """The longest of 1, 2, 5 times a power of ten that a fourth of the width holds."""
    width, height = size
    length, line = nice_length(_BAR_SHARE * width * mpp), font.size * 3 // 2
    bar = round(length / mpp)
    text = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    wide = max(bar, round(draw.textlength(text, font)))
    left, top = width - wide - line, height - 2 * line
    draw.rectangle((left - line // 2, top, width, height), _PANEL)
    draw.text((left, top + line * 0.6), text, _WHITE, font, anchor="lm")
    y = top + 5 * line // 4
    draw.rectangle((left, y, left + bar - 1, y + max(2, line // 6)), _WHITE)


def nice_length(limit: float) -> float:
    """The longest of 1, 2, 5 times a power of ten up to a limit above 0."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(n * power for n in (1, 2, 5) if n * power <= limit)
