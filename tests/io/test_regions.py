"""Rectangles of an image are those of the whole image, whatever the file looks like."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.errors import InputError
from custom.io import slide as module
from custom.io.image import read_image
from custom.io.slide import open_image

FILES = {
    "one-strip": {},
    "strips": {"rowsperstrip": 7},
    "strips-lzw-predictor": {
        "rowsperstrip": 7,
        "compression": "lzw",
        "predictor": True,
    },
    "tiles": {"tile": (16, 32)},
    "tiles-deflate": {"tile": (16, 32), "compression": "zlib"},
    "tiles-jpeg": {"tile": (16, 32), "compression": "jpeg"},
    "bigtiff-tiles": {"tile": (32, 16), "bigtiff": True},
    "planes-strips": {"rowsperstrip": 7, "planarconfig": "separate"},
    "planes-tiles": {"tile": (16, 16), "planarconfig": "separate"},
}
SIZE = (75, 101)


def pixels(channels=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    return rng.integers(0, top, (*SIZE, channels), dtype, endpoint=True).squeeze()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    paths = {}
    for name, options in FILES.items():
        image = pixels()
        if "planarconfig" in options:
            image = np.moveaxis(image, 2, 0)
        paths[name] = folder / f"{name}.tif"
        tifffile.imwrite(paths[name], image, photometric="rgb", **options)
    for name, image in {
        "gray": pixels(1),
        "gray-16": pixels(1, np.uint16),
        "alpha": pixels(4),
    }.items():
        paths[name] = folder / f"{name}.tif"
        kind = "rgb" if name == "alpha" else "minisblack"
        extra = {"extrasamples": ["unassalpha"]} if name == "alpha" else {}
        tifffile.imwrite(paths[name], image, photometric=kind, tile=(32, 32), **extra)
    paths["pyramid"] = folder / "pyramid.tif"
    with tifffile.TiffWriter(paths["pyramid"]) as writer:
        writer.write(pixels(), photometric="rgb", tile=(16, 16), subifds=1)
        writer.write(
            pixels()[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1
        )
    paths["png"] = folder / "image.png"
    cv2.imwrite(str(paths["png"]), pixels())
    return paths


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from([*FILES, "gray", "gray-16", "alpha", "pyramid", "png"]),
    y=st.lists(st.integers(0, SIZE[0]), min_size=2, max_size=2, unique=True),
    x=st.lists(st.integers(0, SIZE[1]), min_size=2, max_size=2, unique=True),
)
def test_a_rectangle_equals_that_of_the_whole_image(files, name, y, x):
    (y1, y2), (x1, x2) = sorted(y), sorted(x)
    with open_image(files[name]) as image:
        assert image.size == SIZE
        for _ in range(2):  # from the file, and from the cache
            found = image.read(y1, x1, y2, x2)
            np.testing.assert_array_equal(found, read_image(files[name])[y1:y2, x1:x2])


def test_only_the_touched_tiles_are_decoded_and_the_cache_is_bounded(
    files, monkeypatch
):
    monkeypatch.setattr(module, "_CACHE_BYTES", 3 * 16 * 32 * 3)
    with open_image(files["tiles"]) as image:
        image.read(0, 0, 16, 32)
        assert list(image._cache) == [0]
        image.read(0, 0, *SIZE)
        assert image._cached <= 3 * 16 * 32 * 3
        assert image._cached == sum(part.nbytes for part, _ in image._cache.values())


def test_pieces_that_can_only_be_read_whole_are_refused(files, monkeypatch):
    monkeypatch.setattr(module, "_MAX_SEGMENT_BYTES", 1000)
    with pytest.raises(InputError, match=r"one-strip.tif: .*read whole.*tiles of 256"):
        open_image(files["one-strip"])


@pytest.mark.parametrize("region", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 5, 102)])
def test_regions_outside_the_image_are_refused(files, region):
    with (
        open_image(files["tiles"]) as image,
        pytest.raises(ValueError, match="not in"),
    ):
        image.read(*region)


def test_broken_pixels_end_in_one_sentence(files, tmp_path):
    data = bytearray(files["tiles-deflate"].read_bytes())
    with tifffile.TiffFile(files["tiles-deflate"]) as file:
        start = file.pages[0].dataoffsets[0]
    data[start : start + 20] = bytes(20)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(data)
    with open_image(broken) as image:
        with pytest.raises(InputError, match=r"broken.tif: rows 0 to 5"):
            image.read(0, 0, 5, 5)
        assert image.read(40, 70, 50, 80).shape == (10, 10, 3)


def test_missing_and_truncated_files_are_refused(files, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_image(tmp_path / "no.tif")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(files["strips"].read_bytes()[:-500])
    with pytest.raises(InputError, match=r"cut\.tif"):
        open_image(cut)
