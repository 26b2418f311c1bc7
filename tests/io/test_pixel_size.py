"""The size of a pixel, as the programs that write it mean it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from custom.io.tiff import pixel_size

IMAGE = np.zeros((20, 30, 3), np.uint8)


def write(path, **options):
    tifffile.imwrite(path, IMAGE, photometric="rgb", **options)
    return path


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"resolution": (4e4, 4e4), "resolutionunit": "centimeter"}, 0.25),
        ({"resolution": (25_400, 25_400), "resolutionunit": "inch"}, 1.0),
        ({"resolution": (72, 72), "resolutionunit": "inch"}, None),  # of a screen
        ({"resolution": (4e4, 2e4), "resolutionunit": "centimeter"}, None),
        ({"resolution": (2, 2)}, None),
        ({}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        (
            {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}},
            0.25,
        ),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True, "resolution": (0, 4), "metadata": {"unit": "um"}}, None),
    ],
)
def test_resolution_tags_and_imagej(tmp_path, options, mpp):
    found = pixel_size(write(tmp_path / "a.tif", **options))
    assert found == pytest.approx(mpp)


@pytest.mark.parametrize(
    ("size", "unit", "mpp"), [(0.5, "µm", 0.5), (250, "nm", 0.25), (2e-4, "mm", 0.2)]
)
def test_ome(tmp_path, size, unit, mpp):
    metadata = {"axes": "YXS"}
    for axis in "XY":
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    path = write(tmp_path / "a.ome.tif", ome=True, metadata=metadata)
    assert pixel_size(path) == pytest.approx(mpp)


def test_aperio(tmp_path):
    path = tmp_path / "a.svs"
    text = (
        "Aperio Image Library v12\n30x20 (256x256) J2K|AppMag = 40|MPP = 0.2498|X = 1"
    )
    write(path, description=text, metadata=None)
    assert pixel_size(path) == pytest.approx(0.2498)


def test_real_slides_say_what_their_scanner_wrote(shared_data):
    slides = sorted((shared_data / "monusac_original").glob("*.svs"))
    assert [pixel_size(p) for p in slides] == pytest.approx([0.19448] * 3, abs=1e-5)


def test_what_cannot_be_read_and_other_formats_have_no_size(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0broken")
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(72, 72))
    assert pixel_size(tmp_path / "a.tif") is None
    assert pixel_size(tmp_path / "a.png") is None
    assert pixel_size(tmp_path / "missing.tif") is None
