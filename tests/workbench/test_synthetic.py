"""Synthetic tiles and the data set made of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    root = tmp_path_factory.mktemp("synthetic") / "new" / "demo"
    return root, write_dataset(root, **ARGS)


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def read_labels(folder: Path) -> dict[int, np.ndarray]:
    paths = sorted(folder.glob("class*.tif"))
    return {int(path.stem[-1]): tifffile.imread(path) for path in paths}


# --- one tile ---


def test_tile_types_and_default_density():
    image, labels = draw_tile(np.random.default_rng(0))
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    assert len(labels) == len(CLASSES)
    assert all(x.shape == (256, 256) and x.dtype == np.int32 for x in labels)
    assert 35 <= max(x.max() for x in labels) <= 45


@pytest.mark.parametrize("seed", range(4))
def test_instances_are_whole_separate_and_numbered_on(seed):
    _, labels = draw_tile(np.random.default_rng(seed), (120, 200), density=80)
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
    image, (_, lymphocytes, _, _) = draw_tile(np.random.default_rng(1), classes=(2,))
    mask = lymphocytes > 0
    outside = ndimage.binary_dilation(mask, iterations=4)
    outside &= ~ndimage.binary_dilation(mask, iterations=2)
    inside = ndimage.binary_erosion(mask, iterations=1)
    red = image[..., 0].astype(float)
    assert red[inside].mean() < red[outside].mean() - 60


@pytest.mark.parametrize("how", [{"density": 0}, {"classes": ()}])
def test_tile_without_cells(how):
    image, labels = draw_tile(np.random.default_rng(0), (64, 64), **how)
    assert image.std() > 0 and not any(x.any() for x in labels)


def test_only_the_classes_asked_for():
    _, labels = draw_tile(np.random.default_rng(0), classes=(1, 4))
    assert [bool(x.any()) for x in labels] == [True, False, False, True]


@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (300, 12)])
def test_narrow_tiles(shape):
    image, labels = draw_tile(np.random.default_rng(0), shape)
    assert image.shape == (*shape, 3) and labels[0].shape == shape


def test_tile_depends_on_the_generator_only():
    first, second, other = (draw_tile(np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).any()


# --- the data set ---


def test_layout_holds_nothing_but_the_released_names(dataset):
    root, _ = dataset
    assert {path.name for path in root.iterdir()} == {
        "train",
        "test_release",
        "test_image_name_to_ids.json",
    }
    folders = list((root / "train").iterdir())
    assert len(folders) == ARGS["n_train"]
    for folder in folders:
        assert UUID.fullmatch(folder.name)
        names = {path.name for path in folder.iterdir()}
        assert "image.tif" in names
        assert names <= {"image.tif", *(f"class{k}.tif" for k in range(1, 5))}
    # Nothing of the temporary folder stays behind.
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_images_are_opaque_rgba_lzw_with_predictor_and_exchanged(dataset):
    root, _ = dataset
    for path in [*root.glob("train/*/image.tif"), *root.glob("test_release/*.tif")]:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            image = page.asarray()
            assert page.compression == tifffile.COMPRESSION.LZW
            assert page.predictor == tifffile.PREDICTOR.HORIZONTAL
            assert page.photometric == tifffile.PHOTOMETRIC.RGB
            assert page.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
        assert image.dtype == np.uint8 and image.shape[2:] == (4,)
        assert (image[..., 3] == 255).all()
        assert channel_order_of(image[..., :3]).order != "rgb"


def test_label_images_continue_their_ids_with_gaps(dataset):
    root, counts = dataset
    seen, gaps = dict.fromkeys(CLASSES, 0), 0
    for folder in (root / "train").iterdir():
        shape, last, n = tifffile.imread(folder / "image.tif").shape[:2], 0, 0
        for number, label in read_labels(folder).items():
            with tifffile.TiffFile(folder / f"class{number}.tif") as tif:
                assert tif.pages[0].compression == tifffile.COMPRESSION.LZW
            assert label.dtype == np.float64 and label.shape == shape
            ids = np.unique(label[label > 0])
            assert ids.size and ids.min() > last and (ids == np.rint(ids)).all()
            last, n = ids.max(), n + ids.size
            seen[CLASSES[number - 1]] += ids.size
        gaps += int(last) - n
    assert seen == counts and gaps > 0


def test_some_classes_are_absent_and_one_image_is_empty(dataset):
    present = [len(read_labels(folder)) for folder in (dataset[0] / "train").iterdir()]
    assert 0 in present and 4 in present and len(set(present)) > 2


def test_ids_of_the_test_images(dataset):
    root, _ = dataset
    table = json.loads((root / "test_image_name_to_ids.json").read_text())
    names = [row["file_name"] for row in sorted(table, key=lambda row: row["id"])]
    assert sorted(row["id"] for row in table) == [1, 2, 3]
    assert set(names) == {path.name for path in (root / "test_release").iterdir()}
    assert names != sorted(names)
    for row in table:
        assert set(row) == {"file_name", "id", "height", "width"}
        image = tifffile.imread(root / "test_release" / row["file_name"])
        assert image.shape[:2] == (row["height"], row["width"])
    assert min(min(row["height"], row["width"]) for row in table) < 64


def test_some_images_are_not_square(dataset):
    paths = dataset[0].glob("train/*/image.tif")
    square = [np.ptp(tifffile.imread(path).shape[:2]) == 0 for path in paths]
    assert 0 < square.count(False) < square.count(True)


def test_same_seed_same_bytes_other_seed_other_names(dataset, tmp_path):
    small = {"n_train": 2, "n_test": 1, "size": 64}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, **small, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    trains = [{p.name for p in (tmp_path / n / "train").iterdir()} for n in "ac"]
    assert not trains[0] & trains[1]


def test_a_folder_with_content_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty") as error:
        write_dataset(tmp_path, **ARGS)
    assert str(tmp_path) in str(error.value) and "another folder" in str(error.value)
    assert files(tmp_path) == {"mine.txt": b"keep"}
    with pytest.raises(InputError):
        write_dataset(tmp_path / "mine.txt", **ARGS)


def test_an_empty_folder_is_filled(tmp_path):
    write_dataset(tmp_path, n_train=2, n_test=1, size=64)
    assert (tmp_path / "test_image_name_to_ids.json").is_file()


@pytest.mark.parametrize("wrong", [{"n_train": 1}, {"n_test": 0}, {"size": 63}])
def test_too_small_a_request_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="at least"):
        write_dataset(tmp_path / "demo", **(ARGS | wrong))
    assert not list(tmp_path.iterdir())


def test_nothing_stays_after_a_failure(tmp_path):
    def stop_after_two(jobs):
        yield from jobs[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "demo", **ARGS, progress=stop_after_two)
    assert not list(tmp_path.iterdir())


# --- the command ---


def test_command_says_what_it_wrote_and_refuses_to_overwrite(tmp_path):
    tool = Path(__file__).parents[2] / "tools" / "data" / "make_demo_data.py"
    args = ["--out", "demo", "--train", "2", "--test", "1", "--size", "64"]
    first, second = (
        subprocess.run(
            [sys.executable, tool, *args], cwd=tmp_path, capture_output=True, text=True
        )
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("demo: 2 training images (")
    assert second.returncode == 1 and "not empty" in second.stderr
    assert "Traceback" not in second.stderr
