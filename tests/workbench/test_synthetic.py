"""Synthetic tiles and the data set made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from custom.errors import InputError
from custom.io.colours import channel_order_of
from custom.workbench.synthetic import CLASSES, draw_tile, write_dataset

UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
ARGS = {"n_train": 8, "n_test": 3, "size": 96, "seed": 3}
SMALL = {"n_train": 2, "n_test": 1, "size": 64}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    root = tmp_path_factory.mktemp("synthetic") / "new" / "demo"
    return root, write_dataset(root, **ARGS)


@pytest.mark.parametrize("seed", range(2))
def test_instances_are_whole_separate_and_numbered_on(seed):
    image, labels = draw_tile(np.random.default_rng(seed), (120, 200), density=80)
    assert image.shape == (120, 200, 3) and image.dtype == np.uint8
    assert len(labels) == len(CLASSES) and labels[0].dtype == np.int32
    assert (sum((x > 0).astype(int) for x in labels) <= 1).all()
    ids = [np.unique(x[x > 0]) for x in labels]
    np.testing.assert_array_equal(
        np.concatenate(ids), np.arange(1, sum(map(len, ids)) + 1)
    )
    for label, numbers in zip(labels, ids, strict=True):
        for number in numbers:
            assert ndimage.label(label == number)[1] == 1
            assert (label == number).sum() >= 30


def test_cells_are_darker_than_stroma_exactly_inside_their_outline():
    image, labels = draw_tile(np.random.default_rng(1), classes=(2,))
    assert [bool(x.any()) for x in labels] == [False, True, False, False]
    mask = labels[1] > 0
    outside = ndimage.binary_dilation(mask, iterations=4)
    outside &= ~ndimage.binary_dilation(mask, iterations=2)
    inside = ndimage.binary_erosion(mask, iterations=1)
    red = image[..., 0].astype(float)
    assert red[inside].mean() < red[outside].mean() - 60


@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (64, 12)])
def test_narrow_and_empty_tiles(shape):
    image, labels = draw_tile(np.random.default_rng(0), shape, classes=())
    assert image.shape == (*shape, 3) and not any(x.any() for x in labels)


def test_layout_is_that_of_the_release(dataset):
    """Opaque RGBA with red and blue exchanged, LZW with predictor."""
    root, _ = dataset
    names = {"train", "test_release", "test_image_name_to_ids.json"}
    assert {path.name for path in root.iterdir()} == names
    folders = list((root / "train").iterdir())
    assert len(folders) == ARGS["n_train"]
    for folder in folders:
        assert UUID.fullmatch(folder.name)
        allowed = {"image.tif", *(f"class{k}.tif" for k in range(1, 5))}
        assert {path.name for path in folder.iterdir()} <= allowed
    square = []
    for path in [*root.glob("train/*/image.tif"), *root.glob("test_release/*.tif")]:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            image = page.asarray()
            assert page.compression == tifffile.COMPRESSION.LZW
            assert page.predictor == tifffile.PREDICTOR.HORIZONTAL
            assert page.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
        assert image.dtype == np.uint8 and (image[..., 3] == 255).all()
        assert channel_order_of(image[..., :3]).order != "rgb"
        square.append(image.shape[0] == image.shape[1])
    assert 0 < square.count(False) < square.count(True)
    # Nothing of the temporary folder stays behind.
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_label_images_continue_their_ids_with_gaps(dataset):
    root, counts = dataset
    seen, gaps, present = dict.fromkeys(CLASSES, 0), 0, []
    for folder in (root / "train").iterdir():
        shape, last, n = tifffile.imread(folder / "image.tif").shape[:2], 0, 0
        paths = sorted(folder.glob("class*.tif"))
        present.append(len(paths))
        for path in paths:
            label = tifffile.imread(path)
            assert label.dtype == np.float64 and label.shape == shape
            ids = np.unique(label[label > 0])
            assert ids.size and ids.min() > last and (ids == np.rint(ids)).all()
            last, n = ids.max(), n + ids.size
            seen[CLASSES[int(path.stem[-1]) - 1]] += ids.size
        gaps += int(last) - n
    assert seen == counts and gaps > 0
    # Some classes are absent, and one image is empty.
    assert 0 in present and 4 in present and len(set(present)) > 2


def test_ids_of_the_test_images(dataset):
    root, _ = dataset
    table = json.loads((root / "test_image_name_to_ids.json").read_text())
    names = [row["file_name"] for row in sorted(table, key=lambda row: row["id"])]
    assert sorted(row["id"] for row in table) == [1, 2, 3]
    assert set(names) == {path.name for path in (root / "test_release").iterdir()}
    assert names != sorted(names)
    for row in table:
        image = tifffile.imread(root / "test_release" / row["file_name"])
        assert image.shape[:2] == (row["height"], row["width"])
    assert min(min(row["height"], row["width"]) for row in table) < 64


def test_same_seed_same_bytes_other_seed_other_names(tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        root = tmp_path / name
        write_dataset(root, **SMALL, seed=seed)
        paths = (path for path in root.rglob("*.*"))
        files.append({path.relative_to(root): path.read_bytes() for path in paths})
    assert files[0] == files[1]
    assert not {p.parent for p in files[0]} & {p.parent for p in files[2]} - {
        Path(), Path("test_release")
    }  # fmt: skip


def test_what_is_refused_and_nothing_stays_after_a_failure(run_tool, tmp_path):
    tool, root = "tools/data/make_demo_data.py", tmp_path / "demo"
    args = ("--out", root, "--train", 2, "--test", 1, "--size", 64)
    assert run_tool(tool, *args).startswith(f"{root}: 2 training images (")
    with pytest.raises(SystemExit, match="not empty"):
        run_tool(tool, *args)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        write_dataset(tmp_path / "mine.txt", **ARGS)
    for wrong in ({"n_train": 1}, {"n_test": 0}, {"size": 63}):
        with pytest.raises(InputError, match="at least"):
            write_dataset(tmp_path / "new", **(ARGS | wrong))

    def stop_after_one(jobs):
        yield from jobs[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "new", **ARGS, progress=stop_after_one)
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "mine.txt"}
