"""Colours that everybody can tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from custom.io.colours import class_palette
from custom.workbench.report.theme import OUTCOMES, on_white

# Machado, Oliveira and Fernandes, IEEE TVCG 15, 1291 (2009), severity 1, linear RGB.
SEEN_BY = {
    "everybody": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear_rgb(color) -> np.ndarray:
    srgb = np.array(color) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(color, matrix) -> np.ndarray:
    seen = np.clip(matrix @ linear_rgb(color), 0, 1)
    coded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(coded)


@pytest.mark.parametrize("eye", SEEN_BY)
@pytest.mark.parametrize("colors", [OUTCOMES, dict(enumerate(class_palette(7)))])
def test_no_two_colours_look_alike(eye, colors):
    for (first, a), (second, b) in combinations(colors.items(), 2):
        distance = deltaE_ciede2000(lab(a, SEEN_BY[eye]), lab(b, SEEN_BY[eye]))
        # Kinds that say the most are far apart, all others are told apart.
        least = 20 if {first, second} <= {"true", "missed", "false"} else 9
        assert distance > least, (first, second, distance)


def test_lines_on_white_have_the_contrast_that_wcag_asks_for():
    for color in (*class_palette(7), (255, 255, 255)):
        luminance = linear_rgb(on_white(color)) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 3
    assert on_white((0, 0, 0)) == (0, 0, 0)
