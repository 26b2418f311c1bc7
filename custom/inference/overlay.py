"""Contours of cells on their image, with a legend and a scale bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from custom.io.pixels import overview
from custom.structures.contours import draw_contours

if TYPE_CHECKING:
    from custom.inference.segmentation import Segmentation

# Images up to the first side are drawn as they are, larger ones with the second: there
# a cell's outline is invisible without zooming in, and drawing would cost the most.
_WHOLE_SIDE, _SMALLER_SIDE = 8192, 4096
# Pillow's own font has no µ.
_FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
# The bar is the longest nice length up to this share of the width.
_BAR_SHARE = 0.25
_SMALLEST = 160
_THICKNESS = 2


def draw_overlay(segmentation: Segmentation, max_side: int | None) -> np.ndarray:
    """See :meth:`Segmentation.overlay`."""
    side = max(segmentation.size)
    if max_side is None:
        max_side = side if side <= _WHOLE_SIDE else _SMALLER_SIDE
    scale = min(1.0, max_side / side)
    if scale == 1:
        image = segmentation.image.read(0, 0, *segmentation.size)
    else:
        image = overview(segmentation.image, max_side)
    drawn = draw_contours(
        image,
        segmentation.masks[::-1],  # the best on top, as in the label images
        segmentation.classes[::-1],
        segmentation.palette,
        _THICKNESS if scale == 1 else 1,
        scale,
    )
    if min(drawn.shape[:2]) < _SMALLEST:  # no room for words
        return drawn
    mpp = segmentation.mpp and segmentation.mpp / scale
    return np.concatenate([drawn, _legend(segmentation, drawn.shape, mpp)])


def _legend(
    segmentation: Segmentation, shape: tuple[int, ...], mpp: float | None
) -> np.ndarray:
    """The strip below an image: a legend and, if ``mpp`` is known, a scale bar."""
    height, width = shape[:2]
    letters = int(np.clip(min(height, width) / 50, 12, 96))
    font = PIL.ImageFont.truetype(_FONT, letters)
    line = letters * 3 // 2
    counts = segmentation.counts()
    entries, x, row = [], line // 2, 0
    for name, color in zip(segmentation.class_names, segmentation.palette, strict=True):
        text = f"{name}: {counts[name]}"
        wide = round(font.getlength(text)) + 2 * line
        if x > line // 2 and x + wide > width:
            x, row = line // 2, row + 1
        entries.append((x, line // 2 + row * line, text, color))
        x += wide
    if mpp is not None:
        row += 2
    canvas = PIL.Image.new("RGB", (width, (row + 2) * line), _WHITE)
    draw = PIL.ImageDraw.Draw(canvas)
    for x, y, text, color in entries:
        box = x, y + line // 4, x + line // 2, y + 3 * line // 4
        draw.rectangle(box, tuple(map(int, color)), _BLACK)
        draw.text((x + line, y + line / 2), text, _BLACK, font, anchor="lm")
    if mpp is not None:
        _draw_scale_bar(draw, (line // 2, row * line), width, mpp, font)
    return np.asarray(canvas)


def _draw_scale_bar(
    draw: PIL.ImageDraw.ImageDraw,
    place: tuple[int, int],
    width: int,
    mpp: float,
    font: PIL.ImageFont.FreeTypeFont,
) -> None:
    """The longest of 1, 2, 5 times a power of ten that a fourth of the width holds."""
    (left, top), line = place, font.size * 3 // 2
    length = nice_length(_BAR_SHARE * width * mpp)
    bar = round(length / mpp)
    text = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    draw.rectangle((left, top, left + bar - 1, top + max(2, line // 6)), _BLACK)
    draw.text((left, top + line), text, _BLACK, font, anchor="lm")


def nice_length(limit: float) -> float:
    """The longest of 1, 2, 5 times a power of ten up to a limit above 0."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(n * power for n in (1, 2, 5) if n * power <= limit)
