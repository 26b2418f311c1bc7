"""Images and outlines inside a page."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from custom.workbench.report.images import image_uri, outline


def polygons(path: str) -> list[np.ndarray]:
    """The points of a path, read as SVG defines M, l and z."""
    results = []
    for start, moves in re.findall(r"M(-?\d+ -?\d+)(?:l([-\d ]+))?z", path):
        steps = np.array(re.findall(r"-?\d+", moves), int).reshape(-1, 2)
        points = np.array(start.split(), int) + np.vstack([[[0, 0]], steps.cumsum(0)])
        results.append(points)
    assert "".join(re.findall(r"M-?\d+ -?\d+(?:l[-\d ]+)?z", path)) == path
    return results


@st.composite
def masks(draw):
    """Blobs, some with holes and of several parts."""
    seed = draw(st.integers(0, 2**32 - 1))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0, 1, 3])))
    return smooth > np.median(smooth)


@settings(deadline=None, max_examples=60)
@given(masks(), st.integers(0, 900), st.integers(0, 900))
def test_outline_stays_within_a_pixel_of_the_boundary(mask, y, x):
    outlines = polygons(outline(mask, y, x))
    assert bool(outlines) == bool(mask.any())
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    assert len(outlines) == len(contours)
    for points, contour in zip(outlines, contours, strict=True):
        polygon = points - (x, y)
        assert mask[polygon[:, 1], polygon[:, 0]].all()
        ends = np.roll(polygon, -1, axis=0)
        for pixel in contour[:, 0]:
            assert distance(pixel, polygon, ends).min() <= 0.75 + 1e-9


def distance(point: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """From a point to each of some line segments."""
    line = ends - starts
    length = np.maximum((line**2).sum(axis=1), 1)
    share = np.clip(((point - starts) * line).sum(axis=1) / length, 0, 1)
    return np.linalg.norm(point - starts - share[:, None] * line, axis=1)


def test_outline_of_single_pixels_and_nothing():
    assert outline(np.ones((1, 1), bool), 3, 4) == "M4 3z"
    assert outline(np.zeros((5, 5), bool), 3, 4) == ""


def test_image_is_small_enough_and_in_its_colours():
    image = np.zeros((500, 2000, 3), np.uint8)
    image[..., 0], image[..., 1] = 200, 90
    uri = image_uri(image, max_side=400)
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    result = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1)
    assert result.shape == (100, 400, 3)
    np.testing.assert_allclose(result[50, 200, ::-1], (200, 90, 0), atol=4)
