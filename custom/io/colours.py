"""Channel order of H&E images; colours of classes."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np

_TISSUE = 0.3  # summed absorbance; glass is below
_FEWEST = 100  # tissue pixels that a judgement needs
DARK_FIELD = 64  # a median brightness below it is fluorescence
_GRAY = 1e-3  # a spread of the red shift below it is a gray image
_SAMPLED = 40_000  # sampled pixels
_MARGIN = 0.15
# Colours that stay apart under colour blindness and on H&E: Wong, Nature Methods 8,
# 441 (2011), without black.
_WONG = (
    (0, 158, 115),
    (240, 228, 66),
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)


class ChannelOrder(NamedTuple):
    """The order of an image's channels, with the evidence.

    Attributes:
        order: ``'rgb'`` (true colours), ``'bgr'`` (red and blue exchanged) or
            ``'unclear'``.
        score: Above 0 for true colours. Exchanging red and blue changes its sign.
    """

    order: str
    score: float

    def __str__(self) -> str:
        meaning = {
            "rgb": "true colours",
            "bgr": "red and blue exchanged",
            "unclear": "order of the colours unclear",
        }
        return f"{meaning[self.order]} (score {self.score:+.2f})"


def optical_density(image: np.ndarray) -> np.ndarray:
    """Absorbance of each channel, log10(256 / (value + 1)), by Beer and Lambert.

    Args:
        image: (..., 3) uint8.

    Returns:
        (..., 3) float32; 0 is white.
    """
    table = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
    return table[image]


def channel_order_of(
    image: np.ndarray, cells: np.ndarray | None = None
) -> ChannelOrder:
    """Judge whether red and blue of an H&E image are exchanged.

    The red shift of a pixel is (red - blue) / (red + green + blue) in absorbance.
    Haematoxylin (0.65, 0.70, 0.29) has +0.22, eosin (0.07, 0.99, 0.11; Ruifrok and
    Johnston, Anal. Quant. Cytol. Histol. 23, 291, 2001) -0.03, blood less. So in true
    colours the shift rises with darkness (nuclei), falls with the share of green
    (eosin), and is negative in the light part of the tissue::

        score = 0.4 * (corr(shift, darkness) - corr(shift, green)) - mean light shift

    With ``cells``, the mean shift of their darker half minus that of the other tissue
    is added. Scores within 0.15 of 0 are unclear, as are gray and dark-field images.

    Of 236 H&E images whose order is known (218 exchanged, 18 in true colours), 224 are
    judged right, 12 are unclear and none is wrong; with ``cells``, 155 of 157 are
    right and 2 unclear (docs/audit.md). The weights and the margin were chosen on these
    images. Other stains mislead the rule: brown immunohistochemistry looks exchanged.

    Args:
        image: (H, W, 3) uint8, as stored in RGB order.
        cells: (H, W) bool, where a cell is, if it is known.
    """
    step = max(1, int((image.shape[0] * image.shape[1] / _SAMPLED) ** 0.5))
    image = image[::step, ::step]
    density = optical_density(image)
    darkness = density.sum(2)
    tissue = darkness > _TISSUE
    shift = (density[..., 0] - density[..., 2]) / (darkness + 0.05)
    if (
        tissue.sum() < _FEWEST
        or np.median(image.max(2)) < DARK_FIELD
        or shift[tissue].std() < _GRAY
    ):
        return ChannelOrder("unclear", 0.0)
    dark, shifts = darkness[tissue], shift[tissue]
    red, green, blue = density[tissue].T
    greenness = (green - (red + blue) / 2) / (dark + 0.05)
    light = shifts[dark <= np.percentile(dark, 40)].mean()
    score = 0.4 * (_correlation(shifts, dark) - _correlation(shifts, greenness)) - light
    if cells is not None:
        score += _shift_of_cells(shift, darkness, tissue, cells[::step, ::step])
    order = "rgb" if score > 0 else "bgr"
    return ChannelOrder(order if abs(score) > _MARGIN else "unclear", float(score))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation, 0 if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 0.0


def _shift_of_cells(
    shift: np.ndarray, darkness: np.ndarray, tissue: np.ndarray, cells: np.ndarray
) -> float:
    """Mean shift of the cells' darker half minus that of the tissue around them."""
    outside = tissue & ~cells
    if not cells.any() or not outside.any():
        return 0.0
    nuclei = cells & (darkness >= np.median(darkness[cells]))
    return float(shift[nuclei].mean() - shift[outside].mean())


def class_palette(
    count: int, given: Sequence[Sequence[int]] | None = None
) -> list[tuple[int, int, int]]:
    """RGB colours for any number of classes.

    Args:
        count: Number of classes.
        given: Colours of the first classes; for the others come Wong's seven, then
            hues at golden angles.
    """
    colours = [(int(r), int(g), int(b)) for r, g, b in given or ()]
    spare = [colour for colour in _WONG if colour not in colours]
    number = 0
    while len(colours) + len(spare) < count:
        number += 1
        red, green, blue = hsv_to_rgb(number * 0.618 % 1, 0.75, 0.95)
        spare.append((round(255 * red), round(255 * green), round(255 * blue)))
    return [*colours, *spare][:count]
