"""Files, folders, patterns and pages, and the names of their results."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from custom.errors import InputError
from custom.io.image import read_image
from custom.io.slide import open_image
from custom.workbench.predict.inputs import find_images


def tif(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((8, 9, 3), np.uint8) if image is None else image
    tifffile.imwrite(path, image, **{"photometric": "rgb", **options})
    return path


def names(*arguments, **options):
    return [image.name for image in find_images(map(str, arguments), **options)]


def test_folders_files_and_patterns_each_image_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s/a.tif", "s/deep/b.svs", "s/deep/c/image.tif", "s/.hidden.tif"):
        tif(tmp_path / name)
    (tmp_path / "s" / "notes.txt").write_text("no image")
    assert names("s") == ["a", "deep/b", "deep/c"]
    assert names("s/deep/c/image.tif", "s/a.tif") == ["c", "a"]
    assert names("s/**/*.svs", "s/deep/b.svs") == ["b"]
    assert names("s/a.tif", "./s/a.tif", tmp_path / "s") == ["a", "deep/b", "deep/c"]


def test_results_are_no_images(tmp_path):
    tif(tmp_path / "a.tif")
    tif(tmp_path / "out" / "a_overlay.tif")
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a"]


def test_what_is_missing_or_has_the_name_of_another_is_refused(tmp_path):
    tif(tmp_path / "x" / "a.tif")
    tif(tmp_path / "y" / "A.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        find_images([tmp_path / "x" / "b.tif"])
    with pytest.raises(InputError, match="does not exist"):
        find_images([f"{tmp_path}/*.png"])
    with pytest.raises(InputError, match="no image matches"):
        find_images([tmp_path / "empty"])
    with pytest.raises(InputError, match="would have the name"):
        find_images([tmp_path / "x" / "a.tif", tmp_path / "y" / "A.tif"])


def test_files_that_differ_in_their_suffix_alone_keep_it(tmp_path):
    tif(tmp_path / "x.tif")
    tif(tmp_path / "y.tif")
    (tmp_path / "x.jpg").touch()
    assert sorted(names(tmp_path)) == ["x.jpg", "x.tif", "y"]


def test_every_page_is_an_image_but_levels_and_thumbnails_are_not(tmp_path):
    rng = np.random.default_rng(0)
    pages = rng.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pages[0], photometric="rgb", tile=(16, 16))
        file.write(pages[0, ::2, ::2], photometric="rgb", subfiletype=1)
        file.write(pages[0, :10], photometric="rgb", subfiletype=1)  # a thumbnail
        file.write(pages[1], photometric="rgb", tile=(16, 16))
        file.write(pages[2, :30, :20], photometric="rgb")  # another size is an image
    images = find_images([path])
    assert [image.name for image in images] == [f"pages_page{n}" for n in (1, 4, 5)]
    read = []
    for image in images:
        with open_image(path, page=image.page) as regions:
            read.append(regions.read(0, 0, *regions.size))
    for result, page in zip(
        read, (pages[0], pages[1], pages[2, :30, :20]), strict=True
    ):
        np.testing.assert_array_equal(result, page)
    pyramid = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(pyramid) as file:
        for step in (1, 2, 4):
            file.write(pages[0, ::step, ::step], photometric="rgb", tile=(16, 16))
    assert names(pyramid) == ["pyramid"]


def test_real_slides_are_one_image(shared_data):
    assert len(find_images([shared_data / "monusac_original"])) == 3


def test_what_cannot_be_read_is_an_image_until_it_is_read(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    assert names(tmp_path) == ["broken"]


STACK = np.zeros((5, 20, 30), np.uint8)
STACKS = {
    "imagej-z": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej-c": {"imagej": True, "metadata": {"axes": "CYX"}},
    "ome-z": {"ome": True, "metadata": {"axes": "ZYX"}},
    "ome-c": {"ome": True, "metadata": {"axes": "CYX"}},
    "volume": {"volumetric": True, "tile": (16, 16, 16)},
}


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_in_depth_and_of_channels_are_refused(tmp_path, kind):
    path = tif(tmp_path / "a.tif", STACK, photometric="minisblack", **STACKS[kind])
    with pytest.raises(InputError, match=r"stack of 5 (planes in depth|channels)"):
        open_image(path, page=0)
    with pytest.raises(InputError, match="stack of 5"):
        read_image(path)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
def test_rgb_of_imagej_and_ome_is_no_stack(tmp_path, options):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tif(tmp_path / "a.tif", image, **options)
    np.testing.assert_array_equal(read_image(path), image)


def test_twelve_channels_in_a_page_are_refused(tmp_path):
    image = np.zeros((20, 30, 12), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    path = tif(tmp_path / "a.tif", image, **options)
    with open_image(path, page=0) as regions, pytest.raises(InputError, match="12"):
        regions.read(0, 0, 20, 30)
