from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from custom.errors import InputError
from custom.io.image import read_labels
from custom.io.mask_folder import pack_mask_folder, read_mask_folder

SIZE = (40, 50)


def write(folder, masks):
    folder.mkdir(exist_ok=True)
    for number, mask in enumerate(masks, 1):
        cv2.imwrite(str(folder / f"mask_{number:04}.png"), mask)
    return folder


def square(y, x, side=10, value=255):
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + side, x : x + side] = value
    return mask


@pytest.fixture
def folder(tmp_path):
    masks = [
        square(0, 0),
        square(25, 30),
        square(5, 5),
        square(8, 8, 4),
        square(39, 49),
    ]
    return write(tmp_path / "masks", masks)


def test_every_pixel_of_every_mask_survives(folder):
    images = read_mask_folder(folder, SIZE)
    # The third overlaps the first, the fourth both.
    assert [sorted(np.unique(i)) for i in images] == [[0, 1, 2, 5], [0, 3], [0, 4]]
    for number, path in enumerate(sorted(folder.iterdir()), 1):
        (image,) = (i for i in images if (i == number).any())
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
        np.testing.assert_array_equal(image == number, mask)


def test_packed_once_and_again_after_a_change(folder, tmp_path):
    paths = pack_mask_folder(folder, SIZE, tmp_path / "cache")
    for image, path in zip(read_mask_folder(folder, SIZE), paths, strict=True):
        np.testing.assert_array_equal(read_labels(path), image)
    times = [os.stat(path).st_mtime_ns for path in paths]
    assert pack_mask_folder(folder, SIZE, tmp_path / "cache") == paths
    assert [os.stat(path).st_mtime_ns for path in paths] == times
    write(folder, [square(0, 20)])
    changed = pack_mask_folder(folder, SIZE, tmp_path / "cache")
    assert changed != paths
    np.testing.assert_array_equal(read_labels(changed[0]) == 1, square(0, 20) > 0)
    # Only whole folders carry a name that is used.
    assert {len(p.name) for p in (tmp_path / "cache").iterdir()} == {32}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros(SIZE, np.uint8), "it is empty"),
        (np.zeros((40, 51), np.uint8), "one channel of the image's size"),
        (np.full((*SIZE, 3), 255, np.uint8), "one channel of the image's size"),
        (square(0, 0) + square(20, 20, value=7), "2 different values besides 0"),
    ],
)
def test_a_bad_file_is_named(folder, bad, reason):
    cv2.imwrite(str(folder / "mask_0002.png"), bad)
    with pytest.raises(InputError, match=reason) as error:
        read_mask_folder(folder, SIZE)
    assert "mask_0002.png" in str(error.value)


def test_a_cut_file_and_an_empty_folder(folder, tmp_path):
    path = folder / "mask_0003.png"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"mask_0003\.png: not a readable image"):
        pack_mask_folder(folder, SIZE, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="lacks masks"):
        read_mask_folder(tmp_path / "nowhere", SIZE)
