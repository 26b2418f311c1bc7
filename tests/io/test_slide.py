"""Images of any format: rectangles, levels of pyramids, sizes of pixels, bad files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from custom.errors import InputError
from custom.io import slide as module
from custom.io.image import image_size, read_image
from custom.io.pixels import ArrayPixels, overview, read_scaled
from custom.io.slide import open_image


def pixel_size(path, page=None):
    with open_image(path, page=page) as image:
        return image.mpp


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
            result = image.read(y1, x1, y2, x2)
            np.testing.assert_array_equal(result, read_image(files[name])[y1:y2, x1:x2])


def test_only_the_touched_tiles_are_decoded_and_the_cache_is_bounded(
    files, monkeypatch
):
    monkeypatch.setattr(module, "_CACHE_BYTES", 3 * 16 * 32 * 3)
    with open_image(files["tiles"]) as image:
        image.read(0, 0, 16, 32)
        assert list(image._cache) == [(0, 0)]
        image.read(0, 0, *SIZE)
        assert image._cached <= 3 * 16 * 32 * 3
        assert image._cached == sum(part.nbytes for part, _ in image._cache.values())


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
    result = pixel_size(write(tmp_path / "a.tif", **options))
    assert result == pytest.approx(mpp)


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


def test_the_resolution_of_a_png_is_that_of_a_screen(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(72, 72))
    assert pixel_size(tmp_path / "a.png") is None


def pyramid(path, image, steps=(1, 4, 16), **options):
    """A tiled pyramid, each level written as a scanner does."""
    with tifffile.TiffWriter(path) as writer:
        for step in steps:
            level = cv2.resize(
                image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA
            )
            more = (
                {"subfiletype": 1} if step > 1 and "description" not in options else {}
            )
            writer.write(
                level, **{"photometric": "rgb", "tile": (64, 64), **options, **more}
            )
    return path


SMOOTH = cv2.resize(
    np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8), (640, 480)
)
APERIO = "Aperio Image Library v12\n640x480 (64x64) JPEG|AppMag = 40|MPP = {}"


def test_levels_of_a_pyramid_are_read_where_they_suffice(tmp_path):
    path = pyramid(tmp_path / "a.tif", SMOOTH)
    with open_image(path) as image:
        assert image.sizes == [(480, 640), (120, 160), (30, 40)]
        read = image.read
        levels = []
        image.read = lambda *a: levels.append(a[4] if len(a) > 4 else 0) or read(*a)
        for scale in (1, 0.5, 0.25, 0.2, 0.05, 2):
            part, step, origin = read_scaled(image, (100, 40, 333, 611), scale)
            assert abs(part.shape[0] - 233 * scale) <= 1 + 8 * scale
            # The place that is named is the one that is shown.
            whole, *_ = read_scaled(ArrayPixels(SMOOTH), (0, 0, 480, 640), scale)
            y, x = round(origin[1] / step[1]), round(origin[0] / step[0])
            expected = whole[y : y + part.shape[0], x : x + part.shape[1]]
            part = part[: expected.shape[0], : expected.shape[1]]
            assert np.abs(part.astype(float) - expected).mean() < 12
        assert levels == [0, 0, 1, 1, 2, 0]
        assert overview(image, 40).shape == (30, 40, 3)


def test_a_level_of_a_slide_is_not_an_image_of_its_own(tmp_path):
    path = pyramid(
        tmp_path / "a.svs", SMOOTH, metadata=None, description=APERIO.format(0.25)
    )
    assert pixel_size(path, 0) == pytest.approx(0.25)
    with pytest.raises(InputError, match="page 1 is not an image"):
        open_image(path, page=1)


@pytest.mark.parametrize("mpp", ["0", "-1", "1e9", "forty", "nan"])
def test_a_pixel_size_that_cannot_be_is_not_used_and_said(tmp_path, mpp):
    path = tmp_path / "a.svs"
    pyramid(path, SMOOTH, (1,), metadata=None, description=APERIO.format(mpp))
    with open_image(path) as image:
        assert image.mpp is None
        assert len(image.notes) == 1 and "its" in image.notes[0]


def test_openslide_reads_what_its_vendors_write(tmp_path):
    path = tmp_path / "trestle.tif"
    options = {
        "software": "MedScan 1",
        "description": "Objective Power=40",
        "metadata": None,
    }
    pyramid(path, SMOOTH, **options)
    with open_image(path) as image:
        assert type(image).__name__ == "SlidePixels" and image.from_scanner
        assert image.sizes == [(480, 640), (120, 160), (30, 40)]
        np.testing.assert_array_equal(image.read(5, 7, 90, 80), SMOOTH[5:90, 7:80])
        level = cv2.resize(SMOOTH, (160, 120), interpolation=cv2.INTER_AREA)
        result = image.read(10, 20, 50, 60, 1)
        np.testing.assert_array_equal(result, level[10:50, 20:60])
    for name in ("a.ndpi", "a.mrxs"):
        (tmp_path / name).write_bytes(path.read_bytes()[:300])
        with pytest.raises(InputError, match=f"{name}: not a readable slide"):
            open_image(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        open_image(tmp_path / "no.ndpi")


def test_levels_that_do_not_fit_are_left_out(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for size in ((480, 640), (120, 160), (50, 160), (30, 40)):
            level = cv2.resize(SMOOTH, size[::-1])
            writer.write(
                level, photometric="rgb", tile=(64, 64), subfiletype=int(size[0] < 480)
            )
    with open_image(path) as image:
        assert image.sizes == [(480, 640), (120, 160), (30, 40)]


def half_written(path):
    pyramid(path, SMOOTH, compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def without_a_tile(path):
    pyramid(path, SMOOTH)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[1].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])


def without_width(path):
    pyramid(path, SMOOTH)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(0)


def cmyk(path):
    tifffile.imwrite(path, np.dstack([SMOOTH] * 2)[..., :4], photometric="separated")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (half_written, "truncated|not a readable TIFF"),
        (without_a_tile, "5 of its 6 parts"),
        (without_width, "480x0 pixels are not an image|holds 2 images"),
        (cmyk, "stored as SEPARATED"),
    ],
)
def test_a_bad_slide_ends_in_one_sentence(tmp_path, write, words):
    write(path := tmp_path / "a.tif")
    with pytest.raises(InputError, match=words) as error:
        open_image(path).read(0, 0, 480, 640)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_pyramids_are_read_at_each_level(tmp_path, dtype):
    gray = SMOOTH[..., 0].astype(dtype) * (np.iinfo(dtype).max // 255)
    path = pyramid(tmp_path / "a.tif", gray, photometric="minisblack")
    with open_image(path) as image:
        assert image.sizes == [(480, 640), (120, 160), (30, 40)]
        np.testing.assert_array_equal(
            image.read(5, 7, 90, 80), np.dstack([SMOOTH[5:90, 7:80, 0]] * 3)
        )
        assert image.read(0, 0, 120, 160, 1).std() > 10


def test_several_images_in_a_file_are_not_one(tmp_path):
    path = tmp_path / "three.tif"
    with tifffile.TiffWriter(path) as writer:
        for size in ((60, 50), (48, 61), (33, 20)):
            writer.write(np.zeros((*size, 3), np.uint8), photometric="rgb")
    for read in (open_image, read_image):
        with pytest.raises(InputError, match="holds 3 images, expected one"):
            read(path)


def test_a_single_strip_of_any_size_is_read_by_rectangles(tmp_path):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (3000, 2000, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=3000)
    with open_image(path) as result:
        np.testing.assert_array_equal(result.read(7, 5, 99, 60), image[7:99, 5:60])
        assert result._cached == 0  # mapped, not read


def test_opening_a_jpeg_tiff_reads_none_of_its_tiles(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, photometric="rgb", tile=(64, 64), compression="jpeg")
    parts = []
    check = module.check_part
    monkeypatch.setattr(module, "check_part", lambda *a: parts.append(a) or check(*a))
    with open_image(path) as image:
        assert not parts
        image.read(0, 0, 60, 60)
        assert len(parts) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_an_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_the_size_of_a_png_is_read_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), SMOOTH)
    monkeypatch.setattr(cv2, "imdecode", None)
    assert image_size(path) == (480, 640)


def test_twelve_bits_in_sixteen_are_noticed(tmp_path):
    path = tmp_path / "a.tif"
    deep = SMOOTH[..., 0].astype(np.uint16) * 16
    tifffile.imwrite(path, deep)
    with open_image(path) as image:
        image.read(0, 0, 480, 640)
        assert "--max-value 4095" in image.dark_note()
    with open_image(path, 4095) as image:
        image.read(0, 0, 480, 640)
        assert not image.dark_note()
