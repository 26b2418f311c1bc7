"""Pixels of polygons and polygons of pixels, against whose rules they are."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from skimage.draw import polygon as skimage_polygon

from custom.structures.polygons import fill, fill_with_outline, trace, union

SIZE = 30, 40
masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(bool, shape)
)
rings = st.lists(
    st.tuples(st.floats(-10, 50, width=32), st.floats(-10, 45, width=32)),
    min_size=3,
    max_size=12,
).map(np.array)


def drawn(masks) -> np.ndarray:
    (full,) = masks.to_ndarray()
    return full


@settings(max_examples=300, deadline=None)
@given(masks)
def test_traced_masks_are_valid_polygons_and_come_back_exactly(mask):
    polygons = trace(4, 3, mask)
    back = np.zeros(SIZE, int)
    for polygon in polygons:
        shape = shapely.Polygon(polygon[0], polygon[1:])
        assert shape.is_valid
        # Clockwise on the screen is counter-clockwise where y runs up.
        assert shapely.LinearRing(polygon[0]).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in polygon[1:])
        assert all((ring[0] == ring[-1]).all() for ring in polygon)
        pixels = drawn(fill(polygon, SIZE))
        assert pixels.sum() == shape.area
        back += pixels
    expected = np.zeros(SIZE, int)
    expected[4 : 4 + mask.shape[0], 3 : 3 + mask.shape[1]] = mask
    np.testing.assert_array_equal(back, expected)


@settings(max_examples=200, deadline=None)
@given(rings)
def test_fill_equals_pycocotools(ring):
    expected = coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *SIZE))
    np.testing.assert_array_equal(drawn(fill([ring], SIZE)), expected[..., 0])


@settings(max_examples=200, deadline=None)
@given(rings)
def test_fill_with_outline_equals_skimage(ring):
    expected = np.zeros(SIZE, bool)
    expected[skimage_polygon(ring[:, 1], ring[:, 0], SIZE)] = True
    np.testing.assert_array_equal(drawn(fill_with_outline(ring, SIZE)), expected)


def test_fill_takes_the_pixels_whose_centre_is_inside():
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([20 + 12.3 * np.cos(turn), 15 + 9.1 * np.sin(turn)], axis=1)
    y, x = np.indices(SIZE)
    inside = shapely.contains_xy(shapely.Polygon(ring), x + 0.5, y + 0.5)
    result = drawn(fill([ring], SIZE))
    near = shapely.Polygon(ring).exterior.distance(shapely.points(x + 0.5, y + 0.5))
    # Vertices are rounded to a fifth of a pixel.
    np.testing.assert_array_equal(result[near > 0.2], inside[near > 0.2])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=8),
    st.integers(1, 12),
    st.integers(13, 25),
)
def test_polygons_that_share_an_edge_share_no_pixel(ys, left, right):
    edge = list(zip(np.linspace(left, right, len(ys)), ys, strict=True))
    above = np.array([(left, 0), *edge, (right, 0)], float)
    below = np.array([(left, 30), *edge, (right, 30)], float)
    one, two = drawn(fill([above], SIZE)), drawn(fill([below], SIZE))
    expected = np.zeros(SIZE, int)
    expected[:, left:right] = 1
    np.testing.assert_array_equal(one.astype(int) + two, expected)


def test_holes_are_cut_out_even_where_they_leave_the_outline():
    square = np.array([(2, 2), (20, 2), (20, 20), (2, 20)])
    hole, outside = square / 2 + 3, square + 15
    result = drawn(fill([square, hole, outside], SIZE))
    expected = drawn(fill([square], SIZE)) & ~drawn(fill([hole], SIZE))
    expected &= ~drawn(fill([outside], SIZE))
    np.testing.assert_array_equal(result, expected)
    assert not drawn(fill([hole, square], SIZE)).any()
    parts = [fill([ring], SIZE) for ring in (hole, outside, square + 45)]
    expected = drawn(parts[0]) | drawn(parts[1])
    np.testing.assert_array_equal(drawn(union(parts, SIZE)), expected)
    assert not drawn(union([], SIZE)).any()


@pytest.mark.parametrize("rule", [lambda r, s: fill([r], s), fill_with_outline])
@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        ([(1, 1), (2, 2)], "fewer than 3"),
        ([(1, 1), (2, 2), (np.nan, 1)], "far outside"),
        ([(1, 1), (2, 2), (np.inf, 1)], "far outside"),
        ([(1, 1), (2, 2), (1e9, 1)], "far outside"),
    ],
)
def test_outlines_that_are_none(rule, ring, reason):
    with pytest.raises(ValueError, match=reason):
        rule(np.array(ring, float), SIZE)


@pytest.mark.parametrize("rule", [lambda r, s: fill([r], s), fill_with_outline])
def test_an_outline_that_would_take_minutes_is_refused(rule):
    zigzag = np.zeros((400_000, 2))
    zigzag[1::2] = 3000
    with pytest.raises(ValueError, match=r"longer than|vertices around"):
        rule(zigzag, (3000, 3000))
