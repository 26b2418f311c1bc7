"""Reading images and label images: what comes out, and what is refused."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.errors import InputError
from custom.io.image import check_labels, image_size, read_image, read_labels
from custom.transforms import LoadCellImage

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (23, 31, 3), np.uint8)
GRAY, ALPHA = RGB[..., 0], RNG.integers(0, 256, (23, 31), np.uint8)
LZW = {"compression": "lzw", "predictor": True}


def write_tiff(path, image, **kwargs):
    tifffile.imwrite(path, image, **kwargs)
    return path


def write_png(path, image):
    if image.ndim == 3:  # OpenCV writes BGR(A)
        image = np.concatenate([image[..., 2::-1], image[..., 3:]], axis=2)
    cv2.imwrite(str(path), image)
    return path


def assert_names(error, path) -> str:
    """The message names the file, the reason and the remedy; returns the reason."""
    assert error.value.source == str(path)
    assert error.value.reason and error.value.remedy
    message = str(error.value)
    assert message == f"{path}: {error.value.reason}. {error.value.remedy}."
    again = pickle.loads(pickle.dumps(error.value))  # as a worker sends it
    assert (type(again), str(again)) == (InputError, message)
    return error.value.reason


# --- images that can be read ---


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF"])
def test_rgba_tiff_as_released_loses_its_alpha_only(tmp_path, suffix):
    path = write_tiff(
        tmp_path / f"image{suffix}",
        np.dstack([RGB, ALPHA]),
        photometric="rgb",
        extrasamples=["unassalpha"],
        **LZW,
    )
    image = read_image(path)
    np.testing.assert_array_equal(image, RGB)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image_size(path) == (23, 31)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_channels_may_be_interleaved_or_planar(tmp_path, planar, channels):
    image = np.dstack([RGB, ALPHA])[..., :channels]
    pixels = image if planar == "contig" else np.moveaxis(image, -1, 0)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    path = write_tiff(
        tmp_path / "image.tif",
        pixels,
        photometric="rgb",
        planarconfig=planar,
        **extra,
        **LZW,
    )
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (23, 31)


@pytest.mark.parametrize("kind", ["tiff", "tiff with alpha", "png"])
def test_gray_is_repeated_without_its_alpha(tmp_path, kind):
    if kind == "png":
        path = write_png(tmp_path / "image.png", GRAY)
    elif kind == "tiff":
        path = write_tiff(tmp_path / "image.tif", GRAY, photometric="minisblack")
    else:
        path = write_tiff(
            tmp_path / "image.tif",
            np.dstack([GRAY, ALPHA]),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        )
    np.testing.assert_array_equal(read_image(path), np.dstack([GRAY] * 3))


def test_tiff_with_a_thumbnail_behind_gives_the_image(tmp_path):
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[::2, ::2], photometric="rgb")
    np.testing.assert_array_equal(read_image(path), RGB)


def test_jpeg_compressed_tiff_keeps_its_colours(tmp_path):
    yy, xx = np.mgrid[:64, :64]
    smooth = np.dstack([4 * yy, 255 - 4 * xx, np.full_like(xx, 40)]).astype(np.uint8)
    path = write_tiff(
        tmp_path / "image.tif",
        smooth,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 95},
    )
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name == "YCBCR"
    difference = np.abs(read_image(path).astype(int) - smooth)
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("max_value", "expected"),
    [
        (65_535, [0, 0, 1, 16, 255]),
        (4095, [0, 8, 16, 255, 255]),
        (257, [0, 127, 255, 255, 255]),
    ],
)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_16_bits_are_scaled_so_that_max_value_becomes_255(
    tmp_path, max_value, expected, suffix
):
    values = np.array([[0, 128, 257, 4095, 65_535]], np.uint16)
    path = tmp_path / f"image{suffix}"
    (write_tiff if suffix == ".tif" else write_png)(path, values)
    image = read_image(path, max_value)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.dstack([[expected]] * 3))


def test_16_bit_rgb_keeps_the_order_of_its_channels(tmp_path):
    path = write_tiff(
        tmp_path / "image.tif", RGB.astype(np.uint16) * 257, photometric="rgb"
    )
    np.testing.assert_array_equal(read_image(path), RGB)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_is_rgb_without_alpha(tmp_path, channels):
    path = write_png(tmp_path / "image.png", np.dstack([RGB, ALPHA])[..., :channels])
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (23, 31)


def test_jpeg_is_rgb(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    path = write_png(tmp_path / "image.jpg", red)
    assert np.abs(read_image(path).astype(int) - red).max() <= 6


def test_load_cell_image_passes_max_value_on(tmp_path):
    path = write_tiff(tmp_path / "image.tif", np.full((4, 5), 4095, np.uint16))
    for max_value, level in ((4095, 255), (65_535, 16)):
        results = LoadCellImage(max_value=max_value).transform({"img_path": str(path)})
        assert (results["img"] == level).all()
        assert results["img"].flags.c_contiguous


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from([(), (2,), (3,), (4,)]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    predictor=st.booleans(),
    rows=st.integers(1, 40),
    byteorder=st.sampled_from("<>"),
    alpha=st.sampled_from(["unassalpha", "assocalpha"]),
    noise=st.integers(1, 255),
)
def test_lzw_is_read_as_without_compression(
    tmp_path_factory, kind, dtype, predictor, rows, byteorder, alpha, noise
):
    folder = tmp_path_factory.mktemp("lzw")
    image = np.random.default_rng(noise).integers(0, noise + 1, (37, 29, *kind), dtype)
    kwargs = {
        "photometric": "rgb" if kind in ((3,), (4,)) else "minisblack",
        "planarconfig": "contig" if kind else None,
        "extrasamples": [alpha] if kind in ((2,), (4,)) else None,
        "rowsperstrip": rows,
        "byteorder": byteorder,
    }
    lzw = write_tiff(
        folder / "lzw.tif", image, compression="lzw", predictor=predictor, **kwargs
    )
    plain = write_tiff(folder / "plain.tif", image, **kwargs)
    np.testing.assert_array_equal(read_image(lzw), read_image(plain))


def test_real_regions_equal_what_tifffile_reads(hw3):
    for name in ("TCGA-2Z-A9JG-01Z-00-DX1_2", "TCGA-5P-A9K0_3"):
        path = hw3 / "train" / name / "image.tif"
        raw = tifffile.imread(path)
        assert raw.shape[2] == 4
        np.testing.assert_array_equal(read_image(path), raw[..., :3])
        assert image_size(path) == raw.shape[:2]


# --- images that cannot ---

READERS = pytest.mark.parametrize("read", [read_image, image_size, read_labels])


@READERS
def test_missing_file(tmp_path, read):
    path = tmp_path / "image.tif"
    with pytest.raises(InputError) as error:
        read(path)
    assert "does not exist" in assert_names(error, path)


@READERS
@pytest.mark.parametrize("content", [b"", b"hello", b"II*\0", b"\x89PNG\r\n\x1a\n"])
def test_tiff_that_is_none(tmp_path, read, content):
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(path)
    assert "not a readable TIFF" in assert_names(error, path)


@READERS
def test_folder_with_the_name_of_a_tiff(tmp_path, read):
    path = tmp_path / "image.tif"
    path.mkdir()
    with pytest.raises(InputError) as error:
        read(path)
    assert_names(error, path)


@READERS
@pytest.mark.parametrize("missing", [1, 500])
def test_truncated_tiff_is_found_by_its_header(tmp_path, read, missing):
    path = write_tiff(tmp_path / "image.tif", GRAY)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(InputError) as error:
        read(path)
    size = path.stat().st_size
    reason = assert_names(error, path)
    assert f"truncated: {size} bytes of at least {size + missing}" in reason


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_tiff_whose_pixels_cannot_be_decoded(tmp_path, read):
    path = write_tiff(tmp_path / "image.tif", GRAY, compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xff" * count
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        read(path)
    assert_names(error, path)


@pytest.mark.parametrize(
    ("image", "kwargs"),
    [
        (GRAY, {"photometric": "miniswhite"}),
        (GRAY, {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}),
        (np.dstack([RGB, ALPHA]), {"photometric": "separated"}),
        (RGB, {"photometric": "ycbcr", "subsampling": (1, 1)}),
    ],
)
def test_colours_that_would_come_out_wrong_are_refused(tmp_path, image, kwargs):
    path = write_tiff(tmp_path / "image.tif", image, **kwargs)
    with pytest.raises(InputError) as error:
        read_image(path)
    assert kwargs["photometric"].upper() in assert_names(error, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint32, bool])
def test_pixels_of_another_type_are_refused(tmp_path, dtype):
    path = write_tiff(
        tmp_path / "image.tif",
        (GRAY / 256).astype(dtype),
        photometric="minisblack",
    )
    with pytest.raises(InputError) as error:
        read_image(path)
    reason = assert_names(error, path)
    assert f"pixels are {np.dtype(dtype)}" in reason and "8 bits" in error.value.remedy


def test_five_channels_are_refused(tmp_path):
    path = write_tiff(
        tmp_path / "image.tif",
        np.dstack([RGB, ALPHA, ALPHA]),
        photometric="rgb",
        planarconfig="contig",
    )
    with pytest.raises(InputError) as error:
        read_image(path)
    assert "(23, 31, 5)" in assert_names(error, path)


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image"])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "half", "folder"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_other_image_that_cannot_be_read(tmp_path, name, damage, read):
    path = tmp_path / name
    whole = cv2.imencode(".jpg" if name.endswith("jpg") else ".png", RGB)[1].tobytes()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        content = {"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}
        path.write_bytes(content[damage])
    with pytest.raises(InputError) as error:
        read(path)
    assert damage != "missing" or "does not exist" in error.value.reason
    assert_names(error, path)


# --- label images ---

IDS = np.array([[0, 0, 1, 1], [0, 3, 3, 700], [2, 2, 0, 700]])


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "u2", "i2", "u4", "i4", "u8", "i8", ">f8", ">u2"]
)
def test_labels_of_any_number_type_with_gaps(tmp_path, dtype):
    path = write_tiff(tmp_path / "class1.tif", IDS.astype(dtype))
    labels = read_labels(path)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, IDS)
    assert check_labels(path, (3, 4)) == 4


def test_labels_of_bool_are_one_instance(tmp_path):
    path = write_tiff(tmp_path / "class1.tif", IDS > 0)
    np.testing.assert_array_equal(read_labels(path), IDS > 0)


@pytest.mark.parametrize("dtype", ["f8", "u4", "i8"])
def test_largest_label(tmp_path, dtype):
    top = 2**31 - 1
    path = write_tiff(tmp_path / "class1.tif", np.array([[0, top, top - 1]], dtype))
    np.testing.assert_array_equal(read_labels(path), [[0, top, top - 1]])
    assert check_labels(path, (1, 3)) == 2


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (np.nan, "f8", "1 label values are NaN"),
        (-1, "f8", "negative, down to -1"),
        (-7, "i2", "negative, down to -7"),
        (-np.inf, "f8", "negative, down to -inf"),
        (0.5, "f8", "not integers, for example 0.5"),
        (3.25, "f4", "not integers, for example 3.25"),
        (np.inf, "f8", "up to inf"),
        (2**31, "f8", "above 2^31 - 1"),
        (2**31, "u4", "above 2^31 - 1"),
        (2**31, "i8", "above 2^31 - 1"),
        (2**32 + 1, "u8", "above 2^31 - 1"),  # 1 when cut to 32 bits
        (2**63 + 5, "u8", "above 2^31 - 1"),
    ],
)
def test_values_that_are_no_ids_are_refused(tmp_path, value, dtype, reason):
    image = IDS.astype(dtype)
    image[0, 0] = value
    path = write_tiff(tmp_path / "class1.tif", image)
    with pytest.raises(InputError) as error:
        read_labels(path)
    assert reason in assert_names(error, path)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_image_instead_of_labels_is_refused(tmp_path, channels):
    path = write_tiff(
        tmp_path / "class1.tif",
        np.dstack([RGB, ALPHA])[..., :channels],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig",
    )
    with pytest.raises(InputError) as error:
        read_labels(path)
    assert "one channel" in assert_names(error, path)


def test_labels_of_another_size_than_the_image_are_refused(tmp_path):
    path = write_tiff(tmp_path / "class1.tif", IDS.astype("f8"))
    with pytest.raises(InputError) as error:
        check_labels(path, (4, 3))
    reason = assert_names(error, path)
    assert "(3, 4)" in reason and "(4, 3)" in reason


@pytest.mark.parametrize("first", [1, 2**30])
def test_no_more_than_65535_instances(tmp_path, first):
    ids = np.arange(first, first + 65_536, dtype=np.float64).reshape(256, 256)
    path = write_tiff(tmp_path / "class1.tif", ids)
    with pytest.raises(InputError) as error:
        check_labels(path, (256, 256))
    assert "65536 different ids" in assert_names(error, path)
    ids[0, 0] = 0
    assert check_labels(write_tiff(path, ids), (256, 256)) == 65_535
