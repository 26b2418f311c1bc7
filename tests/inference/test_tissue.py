"""Which parts of a slide count as tissue."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from custom.inference.tissue import TissueMask
from custom.io.pixels import ArrayPixels


@pytest.mark.parametrize("stained", [False, True])
def test_a_lone_cell_is_tissue_on_a_long_slide_also_beside_dark_tissue(stained):
    rng = np.random.default_rng(0)
    slide = (245 - rng.integers(0, 6, (64, 60_000, 3))).astype(np.uint8)
    if stained:
        slide[:, 2000:20_000] = (200, 120, 180)
    slide[disk((32, 45_000), 12)] = (90, 60, 140)  # 6 µm
    mask = TissueMask(ArrayPixels(slide, 255, "slide"))
    assert mask(20, 44_990, 44, 45_010)
    assert not mask(0, 50_000, 64, 59_000)
    assert mask.share < (0.35 if stained else 0.05)


@pytest.mark.slow
def test_no_cell_of_a_released_region_is_outside(shared_data):
    """On a wide frame of glass, of the region's own white."""
    count = 0
    for folder in sorted((shared_data / "hw3_official/train").iterdir()):
        region = tifffile.imread(folder / "image.tif")[..., :3]
        height, width = region.shape[:2]
        slide = np.empty((height + 400, width + 400, 3), np.uint8)
        slide[:] = np.percentile(region, 99.9, axis=(0, 1)).clip(235, 255)
        slide[200:-200, 200:-200] = region
        mask = TissueMask(ArrayPixels(slide, 255, "slide"))
        assert not mask(0, 0, 120, 120)
        for path in folder.glob("class*.tif"):
            labels = tifffile.imread(path)
            rows, columns = np.nonzero(labels)
            fy, fx = np.array(mask.mask.shape) / slide.shape[:2]
            covered = mask.mask[
                ((rows + 200) * fy).astype(int), ((columns + 200) * fx).astype(int)
            ]
            assert covered.all(), f"{path}: {(~covered).sum()} pixels of cells"
            count += len(np.unique(labels)) - 1
    assert count == 10_506
