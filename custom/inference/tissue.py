"""Tissue mask and channel order of a slide."""

from __future__ import annotations

import cv2
import numpy as np

from custom.io.colours import ChannelOrder, channel_order_of, optical_density
from custom.io.pixels import Pixels, overview

# Side of the overview in which tissue is looked for.
_OVERVIEW = 2048
# Mean absorbance of tissue relative to the slide's own white. Glass has less than 0.02;
# where a pixel of the overview is 30 of the slide, a lone cell of 6 µm still has 0.035.
_TISSUE = 0.03
# Tissue is extended by this share of the longer side: a cell at its border counts.
_MARGIN = 0.01
# Squares of tissue by which the colours are judged.
_SQUARE, _SQUARES = 512, 6


class TissueMask:
    """A map of a slide's tissue, at low resolution.

    A pixel is tissue if its mean absorbance relative to the slide's own white exceeds
    0.03. Tissue is then extended by a hundredth of the image's side.

    Args:
        image: The slide.
    """

    def __init__(self, image: Pixels) -> None:
        small = overview(image, _OVERVIEW)
        self.size = image.size
        white = np.percentile(small.reshape(-1, 3), 99, axis=0).clip(200, 255)
        density = optical_density(small) - optical_density(white.astype(np.uint8))
        self.density = density.mean(axis=2)
        mask = (self.density > _TISSUE).astype(np.uint8)
        radius = max(1, round(_MARGIN * max(mask.shape)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        self.mask = cv2.dilate(mask, disc).astype(bool)

    @property
    def share(self) -> float:
        """The share of the image that is tissue."""
        return float(self.mask.mean())

    def __call__(self, y1: int, x1: int, y2: int, x2: int) -> bool:
        """Whether a rectangle of the slide has a pixel of tissue."""
        fy = self.mask.shape[0] / self.size[0]
        fx = self.mask.shape[1] / self.size[1]
        rows = slice(int(y1 * fy), max(int(np.ceil(y2 * fy)), int(y1 * fy) + 1))
        columns = slice(int(x1 * fx), max(int(np.ceil(x2 * fx)), int(x1 * fx) + 1))
        return bool(self.mask[rows, columns].any())


def judge_colours(image: Pixels) -> ChannelOrder:
    """:func:`channel_order_of` the image, or of its six darkest squares of 512 pixels.

    Args:
        image: The image, as it is stored.
    """
    height, width = image.size
    if height * width <= _SQUARES * _SQUARE**2:
        return channel_order_of(image.read(0, 0, height, width))
    small = overview(image, max(8, max(image.size) // _SQUARE))
    density = optical_density(small).mean(axis=2)
    # Markers and black borders are darker than tissue.
    density[density > 1] = 0
    places = np.argsort(-density, axis=None, kind="stable")[:_SQUARES]
    rows, columns = np.unravel_index(places, density.shape)
    squares = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        y = min(row * height // density.shape[0], max(0, height - _SQUARE))
        x = min(column * width // density.shape[1], max(0, width - _SQUARE))
        square = image.read(y, x, min(y + _SQUARE, height), min(x + _SQUARE, width))
        squares.append(square[: min(_SQUARE, height), : min(_SQUARE, width)])
    smallest = min(square.shape[1] for square in squares)
    return channel_order_of(np.concatenate([s[:, :smallest] for s in squares]))
