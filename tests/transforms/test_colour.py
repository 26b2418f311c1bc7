"""Colours against scikit-image, detectron2 and torchstain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import hed2rgb, rgb2hed

from custom.transforms import RandomBlend, RandomHEDJitter, StainNormalize
from custom.transforms.colour import jitter
from custom.workbench.synthetic import draw_tile

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.tuples(*[st.floats(0.7, 1.3)] * 3),
    beta=st.tuples(*[st.floats(-0.05, 0.05)] * 3),
)
def test_equals_scikit_image_where_no_stain_is_negative(seed, alpha, beta):
    stains = np.random.default_rng(seed).uniform(0.002, 0.12, (20, 30, 3))
    rgb = np.round(255 * hed2rgb(stains)).astype(np.uint8)
    wanted = rgb2hed(rgb) * alpha + beta
    # scikit-image sets negative stains to 0, and the pixel is another one then.
    positive = (rgb2hed(rgb) > 0).all(axis=-1) & (rgb > 0).all(axis=-1)
    wanted = np.round(255 * hed2rgb(wanted))
    jittered = jitter(rgb[..., ::-1].copy(), alpha, beta)[..., ::-1].astype(int)
    assert positive.mean() > 0.9
    # Numbers of single precision may be rounded to the other side.
    assert np.abs(jittered - wanted)[positive].max() <= 1
    assert (jittered != wanted)[positive].mean() < 0.01


def test_no_jitter_changes_no_pixel():
    jittered = RandomHEDJitter(sigma=0.0, shift=0.0)({"img": IMAGE})["img"]
    np.testing.assert_array_equal(jittered, IMAGE)


def test_more_of_all_stains_is_darker_and_background_without_shift_stays():
    white = np.full((4, 4, 3), 255, np.uint8)
    assert (jitter(white, [1.3, 0.7, 1.1], [0, 0, 0]) == 255).all()
    assert (jitter(IMAGE, [1, 1, 1], [0.01, 0.01, 0.01]) <= IMAGE).all()
    # One level more or less in a dark pixel must not show in the other channels.
    dark = np.array([[[0, 60, 90], [1, 60, 90]]], np.uint8)
    first, second = jitter(dark, [1.1, 0.9, 1.0], [0, 0, 0])[0].astype(int)
    assert np.abs(first - second).max() <= 8


def test_draws_each_stain_anew_within_the_limits_and_keeps_its_input():
    transform, before = RandomHEDJitter(sigma=0.2, shift=0.01), IMAGE.copy()
    np.random.seed(0)
    draws = [transform._draw() for _ in range(99)]
    alphas, betas = (np.array(d) for d in zip(*draws, strict=True))
    assert alphas.shape == betas.shape == (99, 3)
    assert 0.8 <= alphas.min() < 0.82 and 1.18 < alphas.max() <= 1.2
    assert -0.01 <= betas.min() < -0.009 and 0.009 < betas.max() <= 0.01
    assert abs(np.corrcoef(alphas.T) - np.eye(3)).max() < 0.3
    transform({"img": IMAGE})
    np.testing.assert_array_equal(IMAGE, before)


def detectron2(rgb: np.ndarray, weight: float, target: str) -> np.ndarray:
    """RandomSaturation, RandomBrightness and BlendTransform of detectron2 0.6."""
    source = np.zeros_like(rgb)
    if target == "gray":
        source = rgb.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]
    return np.clip((1 - weight) * source + weight * rgb, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("target", ["gray", "black"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.0, 10.0])
def test_blend_equals_detectron2_on_rgb(target, weight):
    results = RandomBlend(target, (weight, weight))({"img": IMAGE.copy()})
    rgb = IMAGE[..., ::-1].astype(np.float32)
    wanted = detectron2(rgb, weight, target)[..., ::-1]
    # Sums in another order may fall on the other side of an integer.
    assert np.abs(results["img"].astype(int) - wanted).max() <= 1
    assert (results["img"] != wanted).mean() < 0.01


def test_brightness_is_drawn_uniformly_and_keeps_its_input():
    """The stock Brightness draws 0.9, 1 and 1.1 alone."""
    transform, image = (
        RandomBlend("black", (0.9, 1.1)),
        np.full((1, 1, 3), 200, np.uint8),
    )
    np.random.seed(0)
    draws = [transform({"img": image})["img"][0, 0, 0] for _ in range(2000)]
    counts = np.bincount(draws, minlength=221)
    assert set(np.flatnonzero(counts)) == set(range(180, 220))
    assert counts[180:220].min() > 25  # 50 each on average
    assert (image == 200).all()


def test_stains_become_alike():
    """Two tiles of other stains have colours that differ less afterwards."""
    tiles = [draw_tile(np.random.default_rng(seed))[0][..., ::-1] for seed in (1, 4)]
    result = [StainNormalize()({"img": tile.copy()})["img"] for tile in tiles]
    before, after = (
        np.abs(np.subtract(*(image.mean((0, 1)) for image in images))).max()
        for images in (tiles, result)
    )
    assert after < 0.7 * before
    assert all(image.dtype == np.uint8 and image.flags.c_contiguous for image in result)


@pytest.mark.parametrize("value", [0, 250])
def test_an_image_without_tissue_keeps_its_colours(value):
    image = np.full((40, 40, 3), value, np.uint8)
    np.testing.assert_array_equal(StainNormalize()({"img": image})["img"], image)
