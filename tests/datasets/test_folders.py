"""Bitmaps of one instance each become label images, once."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from custom.datasets.folders import pack_masks
from custom.errors import InputError
from custom.io.image import read_labels

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
    corners = ((0, 0), (25, 30), (5, 5), (8, 8, 4), (39, 49))
    return write(tmp_path / "masks", [square(*corner) for corner in corners])


def test_every_pixel_of_every_mask_survives(folder, tmp_path):
    images = [read_labels(p) for p in pack_masks(folder, SIZE, tmp_path / "cache")]
    # The third overlaps the first, the fourth both.
    assert [sorted(np.unique(i)) for i in images] == [[0, 1, 2, 5], [0, 3], [0, 4]]
    for number, path in enumerate(sorted(folder.iterdir()), 1):
        (image,) = (i for i in images if (i == number).any())
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
        np.testing.assert_array_equal(image == number, mask)


def test_packed_once_and_again_after_a_change(folder, tmp_path):
    paths = pack_masks(folder, SIZE, tmp_path / "cache")
    times = [os.stat(path).st_mtime_ns for path in paths]
    assert pack_masks(folder, SIZE, tmp_path / "cache") == paths
    assert [os.stat(path).st_mtime_ns for path in paths] == times
    write(folder, [square(0, 20)])
    changed = pack_masks(folder, SIZE, tmp_path / "cache")
    assert changed != paths
    np.testing.assert_array_equal(read_labels(changed[0]) == 1, square(0, 20) > 0)
    assert {p.suffix for p in (tmp_path / "cache").iterdir()} == {".tif"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros(SIZE, np.uint8), "it is empty"),
        (np.zeros((40, 51), np.uint8), "one channel of the image's size"),
        (np.full((*SIZE, 3), 255, np.uint8), "one channel of the image's size"),
        (square(0, 0) + square(20, 20, value=7), "2 different values besides 0"),
        (None, "not a readable image"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_written(folder, tmp_path, bad, reason):
    path = folder / "mask_0002.png"
    if bad is None:
        path.write_bytes(path.read_bytes()[:20])
    else:
        cv2.imwrite(str(path), bad)
    with pytest.raises(InputError, match=rf"mask_0002\.png: .*{reason}"):
        pack_masks(folder, SIZE, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
