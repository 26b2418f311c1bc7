"""The rule that tells true colours from exchanged ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from custom.io.colours import channel_order_of
from custom.io.image import read_image, read_labels
from custom.workbench.synthetic import draw_tile


def test_drawn_tiles_are_in_true_colours_and_exchanging_changes_the_sign():
    for seed in range(6):
        image, labels = draw_tile(np.random.default_rng(seed))
        for cells in (None, sum(labels) > 0):
            true = channel_order_of(image, cells)
            exchanged = channel_order_of(image[..., ::-1], cells)
            assert (true.order, exchanged.order) == ("rgb", "bgr")
            assert true.score == pytest.approx(-exchanged.score, abs=1e-4)


@pytest.mark.parametrize("kind", ["gray", "dark field", "glass", "tiny"])
def test_what_is_not_h_and_e_is_unclear(kind):
    image, _ = draw_tile(np.random.default_rng(0))
    if kind == "gray":
        image = np.repeat(image[..., :1], 3, axis=2)
    elif kind == "dark field":
        image = (255 - image) // 8
    elif kind == "glass":
        image = np.full_like(image, 245)
    else:
        image = image[:6, :6]
    order = channel_order_of(image, np.ones(image.shape[:2], bool))
    assert order.order == "unclear" and "unclear" in str(order)


@pytest.mark.slow
def test_no_real_image_is_judged_wrong(shared_data):
    """The counts of docs/audit.md."""
    official, hw3 = shared_data / "hw3_official", shared_data / "hw3"
    groups = {
        "released, with cells": official.glob("train/*/image.tif"),
        "released test": official.glob("test_release/*.tif"),
        "original slides": shared_data.glob("monusac_original/*.svs"),
        "rasterised, with cells": hw3.glob("train/TCGA-5P*/image.tif"),
        "2021": shared_data.glob("nuclei2021/t*/**/TCGA*.png"),
    }
    results = {}
    for name, paths in groups.items():
        counts = Counter()
        for path in sorted(paths):
            image, cells = read_image(path), None
            if "with cells" in name:
                files = path.parent.glob("class*.tif")
                cells = sum(read_labels(file) > 0 for file in files) > 0
            counts[channel_order_of(image, cells).order] += 1
        results[name] = dict(counts)
    assert results == {
        "released, with cells": {"bgr": 107, "unclear": 1},
        "released test": {"bgr": 63, "unclear": 3},
        "original slides": {"rgb": 2, "unclear": 1},
        "rasterised, with cells": {"rgb": 3},
        "2021": {"rgb": 15},
    }
