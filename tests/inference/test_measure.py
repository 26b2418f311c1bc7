"""Measurements: against skimage on whole label images, and against geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from skimage.color import rgb2hed
from skimage.measure import regionprops_table

from custom.inference import Segmentation
from custom.inference.measure import STAINS, neighbours
from custom.io.pixels import ArrayPixels
from custom.structures import BoxMasks
from tests.drawn_network import CLASSES, PALETTE, draw_cells

PROPERTIES = ("area", "perimeter_crofton", "eccentricity", "axis_major_length")


def segmentation(image, masks, classes=None, **more):
    """Cells from (h, w) bool masks of a whole image."""
    count = len(masks)
    boxes = BoxMasks.from_patches([(0, 0, m) for m in masks], image.shape[:2])
    return Segmentation(
        "image",
        ArrayPixels(image),
        boxes.windows[:, [1, 0, 3, 2]].astype(float),
        np.linspace(1, 0.5, count),
        np.zeros(count, np.int64) if classes is None else np.array(classes),
        boxes,
        CLASSES,
        PALETTE,
        **more,
    )


def random_scene(seed, count=12):
    """Noise, and random blobs that overlap and touch the border."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(30, 80, 2))
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    yy, xx = np.mgrid[: size[0], : size[1]]
    masks = []
    for _ in range(count):
        y, x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        a, b = rng.uniform(1, 14, 2)
        mask = ((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 <= 1
        if mask.any():
            masks.append(mask)
    return image, masks


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_shapes_and_stains_are_those_of_skimage_on_the_whole_image(seed):
    image, masks = random_scene(seed)
    frame = segmentation(image, masks).to_frame()
    hed = rgb2hed(image)
    for row, mask in zip(frame.to_dict("records"), masks, strict=True):
        whole = regionprops_table(
            mask.astype(int), properties=[*PROPERTIES, "centroid"]
        )
        for name in PROPERTIES:
            own = {"perimeter_crofton": "perimeter", "axis_major_length": "major_axis"}
            assert row[own.get(name, name)] == pytest.approx(whole[name][0]), name
        assert row["x"] == pytest.approx(whole["centroid-1"][0] + 0.5)
        assert row["y"] == pytest.approx(whole["centroid-0"][0] + 0.5)
        np.testing.assert_allclose([row[s] for s in STAINS], hed[mask].mean(axis=0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 60))
def test_neighbours_are_counted_as_by_all_distances(seed, radius):
    points = np.random.default_rng(seed).uniform(0, 100, (seed % 40, 2))
    expected = (cdist(points, points) <= radius).sum(axis=1) - 1
    np.testing.assert_array_equal(neighbours(points, radius), expected)


@pytest.mark.parametrize("radius", [5, 8, 20])
def test_a_disc_is_round_and_a_bar_is_not(radius):
    yy, xx = np.mgrid[:64, :64]
    disc = (yy - 32.3) ** 2 + (xx - 31.8) ** 2 <= radius**2
    bar = (abs(yy - 32) <= 2) & (abs(xx - 32) <= 25)
    frame = segmentation(np.zeros((64, 64, 3), np.uint8), [disc, bar]).to_frame()
    assert frame.circularity[0] > 0.94 and frame.circularity[1] < 0.5
    assert frame.perimeter[0] == pytest.approx(
        2 * math.sqrt(math.pi * disc.sum()), rel=0.025
    )
    assert frame.eccentricity[0] < 0.3 and frame.eccentricity[1] > 0.95


def test_micrometres_are_pixels_times_the_size_of_one():
    centers = [(20, 20), (20, 40), (20, 90)]
    image = draw_cells((60, 120), centers)
    masks = [
        (np.hypot(*np.mgrid[:60, :120] - np.reshape(c, (2, 1, 1))) <= 7)
        for c in centers
    ]
    cells = segmentation(image, masks, [0, 1, 1], mpp=0.5, origin=(1000, 2000))
    frame = cells.to_frame(radius=25, radius_um=25)
    assert frame["class"].tolist() == ["round", "square one", "square one"]
    np.testing.assert_allclose(frame.area_um2, frame.area / 4)
    np.testing.assert_allclose(frame.perimeter_um, frame.perimeter / 2)
    np.testing.assert_allclose(frame.x, [1020.5, 1040.5, 1090.5])
    np.testing.assert_allclose(frame.y_um, np.full(3, 2020.5 / 2))
    assert frame.neighbours.tolist() == [1, 1, 0]  # 25 pixels
    assert frame.neighbours_um.tolist() == [1, 2, 1]  # 50 pixels
    summary = cells.summary()
    assert summary["area_mm2"] == pytest.approx(60 * 120 * 0.25e-6)
    assert summary["count_square one"] == 2 and summary["cells"] == 3
    assert summary["per_mm2_round"] == pytest.approx(1 / summary["area_mm2"])


def test_what_needs_the_size_of_a_pixel_is_empty_without_it():
    image, masks = random_scene(0)
    cells = segmentation(image, masks)
    frame = cells.to_frame()
    unknown = [name for name in frame if "_um" in name]
    assert len(unknown) == 5 and frame[unknown].isna().all(axis=None)
    assert math.isnan(cells.summary()["cells_per_mm2"])


def test_an_image_without_cells_has_a_table_without_rows():
    cells = segmentation(np.zeros((9, 9, 3), np.uint8), [], mpp=1.0)
    frame = cells.to_frame()
    full = segmentation(*random_scene(1)).to_frame()
    assert len(frame) == 0 and list(frame) == list(full)
    assert cells.summary()["cells_per_mm2"] == 0


def test_a_cell_of_one_pixel_is_measured():
    mask = np.zeros((9, 9), bool)
    mask[0, 8] = True
    frame = segmentation(np.zeros((9, 9, 3), np.uint8), [mask]).to_frame()
    assert frame.area[0] == 1 and 0 < frame.circularity[0] <= 1
    assert np.isfinite(frame[["eccentricity", "hematoxylin"]]).all(axis=None)
