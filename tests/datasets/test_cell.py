"""CellDataset: the index, its errors, its checks, and the way into a stock pipeline."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmdet.registry import DATASETS, TASK_UTILS
from mmengine.config import Config
from mmengine.structures import InstanceData

import custom.models  # noqa: F401 (registers)
from custom.datasets import CellDataset
from custom.datasets.splits import Split
from custom.errors import InputError
from custom.io.image import read_image
from custom.structures import LabelMasks

CLASSES = ("class1", "class2", "class3", "class4")
# Small ones that have between them every class, absent classes and odd sizes.
REGIONS = (
    "TCGA-2Z-A9JG-01Z-00-DX1_2",
    "TCGA-2Z-A9JG-01Z-00-DX1_6",
    "TCGA-5P-A9K0_3",
    "TCGA-DW-7838-01Z-00-DX1_1",
    "TCGA-G9-6356-01Z-00-DX1_6",
    "TCGA-MH-A55W-01Z-00-DX1_4",
)
LOAD = [{"type": "LoadLabelMasks"}]
PACK = [{"type": "LoadCellImage"}, *LOAD, {"type": "PackDetInputs"}]


def cells(root: Path, **kwargs) -> CellDataset:
    options = {"data_prefix": {"img": "train"}, "serialize_data": False, **kwargs}
    return CellDataset(data_root=str(root), **options)


def with_class(root: Path, name: str) -> Path:
    """A class file of some image that has it."""
    return min((root / "train").glob(f"*/{name}.tif"))


def naive_instances(folder: Path) -> list[tuple[int, np.ndarray]]:
    """(label, (H, W) bool) of each id, by one comparison each."""
    instances = []
    for label, name in enumerate(CLASSES):
        if (folder / f"{name}.tif").exists():
            image = tifffile.imread(folder / f"{name}.tif")
            instances += [(label, image == i) for i in np.unique(image) if i > 0]
    return instances


def assert_instances_are_those_on_disk(folder: Path, results: dict) -> None:
    naive = naive_instances(folder)
    masks = results["gt_masks"]
    assert isinstance(masks, LabelMasks) and len(masks) == len(naive)
    assert results["gt_bboxes_labels"].tolist() == [label for label, _ in naive]
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_ignore_flags"].tolist() == [False] * len(naive)
    bitmaps, boxes = masks.to_ndarray(), results["gt_bboxes"].tensor.numpy()
    assert boxes.shape == (len(naive), 4)
    for (_, expected), bitmap, box in zip(naive, bitmaps, boxes, strict=True):
        np.testing.assert_array_equal(bitmap, expected)
        ys, xs = np.nonzero(expected)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


# --- the index ---


def test_entries_describe_what_is_on_disk(tiny_root):
    dataset = cells(tiny_root)
    folders = sorted((tiny_root / "train").iterdir())
    assert len(dataset) == len(folders) == 6
    for number, folder in enumerate(folders):
        image = tifffile.imread(folder / "image.tif")
        labels = [label for label, _ in naive_instances(folder)]
        present = [i for i, c in enumerate(CLASSES) if (folder / f"{c}.tif").exists()]
        assert dataset.get_data_info(number) == {
            "img_path": str(folder / "image.tif"),
            "img_id": number + 1,
            "name": folder.name,
            "height": image.shape[0],
            "width": image.shape[1],
            "label_files": [(i, str(folder / f"{CLASSES[i]}.tif")) for i in present],
            "counts": [labels.count(c) for c in range(4)],
            "sample_idx": number,
        }
        assert dataset.get_cat_ids(number) == labels
    assert sum(not sum(entry["counts"]) for entry in dataset.data_list) == 1
    assert dataset.metainfo["classes"] == CLASSES
    pixels = sum(entry["height"] * entry["width"] for entry in dataset.data_list)
    assert len(pickle.dumps(dataset.data_list)) < 1000 * len(dataset) < pixels


def test_ids_do_not_depend_on_the_split(tiny_root):
    ids = {entry["name"]: entry["img_id"] for entry in cells(tiny_root).data_list}
    assert sorted(ids.values()) == [1, 2, 3, 4, 5, 6]
    for split in ("random_50-50_seed1", "kfold_3-1", "stratified_80-20"):
        parts = [cells(tiny_root, split=split, subset=s) for s in ("train", "val")]
        entries = [entry for part in parts for entry in part.data_list]
        assert {entry["name"]: entry["img_id"] for entry in entries} == ids


def test_subsets_are_the_two_parts_of_the_split_file(tiny_root, tmp_path):
    names = sorted(path.name for path in (tiny_root / "train").iterdir())
    path = tmp_path / "my.json"
    Split("my", "random", 1, (names[4], names[0]), (names[2],)).save(path)
    for subset, expected in (("train", [names[4], names[0]]), ("val", [names[2]])):
        dataset = cells(tiny_root, split=str(path), subset=subset)
        assert [entry["name"] for entry in dataset.data_list] == expected
        assert dataset.split == Split.load(path)


def test_empty_images_stay_unless_filtered_in_training(tiny_root):
    wanted = {"filter_empty_gt": True}
    assert len(cells(tiny_root)) == len(cells(tiny_root, filter_cfg={})) == 6
    assert len(cells(tiny_root, filter_cfg=wanted, test_mode=True)) == 6
    dataset = cells(tiny_root, filter_cfg=wanted)
    assert len(dataset) == 5
    assert all(sum(entry["counts"]) for entry in dataset.data_list)


# --- classes ---


@pytest.mark.parametrize("count", [1, 3, 9])
def test_any_number_of_classes_has_as_many_colours(tmp_path, count):
    names = tuple(f"kind{i}" for i in range(count))
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "image.tif", np.zeros((9, 9, 3), np.uint8))
    tifffile.imwrite(folder / f"{names[-1]}.tif", np.eye(9))
    given = [(1, 2, 3)]
    dataset = cells(tmp_path, metainfo={"classes": names, "palette": given})
    assert dataset.get_cat_ids(0) == [count - 1]
    palette = dataset.metainfo["palette"]
    assert palette[0] == (1, 2, 3) and len(set(palette)) == count


def test_class_files_can_be_renamed_and_merged(tiny_root):
    whole = cells(tiny_root, pipeline=LOAD)
    merged = cells(
        tiny_root,
        pipeline=LOAD,
        metainfo={"classes": ("lymphocyte", "other")},
        class_of={
            "class1": "other",
            "class2": "lymphocyte",
            "class3": "other",
            "class4": "ignore",
        },
    )
    for i in range(6):
        first, second, third, fourth = whole.get_data_info(i)["counts"]
        assert merged.get_data_info(i)["counts"] == [second, first + third]
        results = merged[i]
        assert len(results["gt_masks"]) == first + second + third + fourth
        assert results["gt_ignore_flags"].sum() == fourth
    assert len(set(merged.files().values())) == len(merged.files())
    assert merged.files().keys() >= {f"{whole.get_data_info(0)['name']}/image"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metainfo": {"classes": ("class1", "class2", "class3")}}, "not a class of"),
        ({"metainfo": {"classes": ("nucleus",)}}, "not a class of this data set"),
        ({"metainfo": {"classes": "class1"}}, "not a list of unique names"),
        ({"metainfo": {"classes": ()}}, "not a list of unique names"),
        ({"metainfo": {"classes": ("a", "a")}}, "not a list of unique names"),
        ({"class_of": {"class1": "nucleus"}}, "which is not a class"),
        ({"split": "nonsense"}, "no such split"),
        ({"subset": "nonsense"}, "'nonsense' is unknown"),
        ({"bad_files": "nonsense"}, "'nonsense' is unknown"),
        ({"subset": "val"}, "lacks val images"),
    ],
)
def test_options_that_do_not_fit_are_refused(tiny_root, options, reason):
    assert reason in refuse(tiny_root, **options).reason


# --- with stock parts ---


@pytest.mark.parametrize("name", ["synthetic", *REGIONS])
def test_instances_equal_one_comparison_per_id(request, tiny_root, tmp_path, name):
    root = tiny_root
    names = [path.name for path in (root / "train").iterdir()]
    if name != "synthetic":
        root, names = request.getfixturevalue("hw3"), [name]
    Split("some", "random", 0, tuple(names), ()).save(tmp_path / "some.json")
    dataset = cells(root, split=str(tmp_path / "some.json"), pipeline=LOAD)
    for results in dataset:
        assert_instances_are_those_on_disk(Path(results["img_path"]).parent, results)


# --- regions to ignore ---


@pytest.fixture
def with_ignored(tiny_copy, folders) -> Path:
    """Data whose first image has two regions to ignore, one over cells."""
    size = tifffile.imread(folders[0] / "image.tif").shape[:2]
    ignore = np.zeros(size, np.uint16)
    ignore[:, :40] = 4
    ignore[50:60, 50:60] = 9
    tifffile.imwrite(folders[0] / "ignore.tif", ignore, compression="zlib")
    return tiny_copy


def test_regions_to_ignore_go_where_mmdetection_expects_them(with_ignored, folders):
    flip = {"type": "RandomFlip", "prob": 1.0}
    dataset = cells(with_ignored, pipeline=[*PACK[:2], flip, PACK[2]])
    sample = dataset[0]["data_samples"]
    ignored = sample.ignored_instances
    mask = tifffile.imread(folders[0] / "ignore.tif")[:, ::-1]
    expected = np.stack([mask == 4, mask == 9])
    np.testing.assert_array_equal(ignored.masks.to_ndarray(), expected)
    assert ignored.labels.tolist() == [-1, -1]
    # Cells under a region keep their pixels; regions are not counted.
    counts = dataset.get_data_info(0)["counts"]
    assert len(counts) == 4 and len(sample.gt_instances) == sum(counts)
    assert -1 not in dataset.get_cat_ids(0)
    joined = sample.gt_instances.masks.to_ndarray().any(0)
    files = folders[0].glob("class*.tif")
    np.testing.assert_array_equal(
        joined, sum(tifffile.imread(p) > 0 for p in files)[:, ::-1] > 0
    )
    assert (joined & expected[0]).any()
    assert len(dataset[1]["data_samples"].ignored_instances) == 0


@pytest.mark.parametrize("stage", ["rpn", "rcnn"])
@pytest.mark.parametrize("name", ["mask-rcnn", "cascade-mask-rcnn"])
def test_configs_do_not_train_regions_to_ignore_as_background(
    with_ignored, repo, stage, name
):
    path = repo / f"configs/_base_/models/{name}_r50_fpn_cell.py"
    settings = Config.fromfile(path).model.train_cfg[stage]
    ignored = cells(with_ignored, pipeline=PACK)[0]["data_samples"].ignored_instances
    box = ignored.bboxes.tensor[0]
    centre = (box[:2] + box[2:]) / 2
    priors = InstanceData(priors=torch.cat([centre - 3, centre + 3])[None])
    gt = InstanceData(bboxes=torch.tensor([[90.0, 90, 95, 95]]), labels=torch.zeros(1))
    for one in settings if isinstance(settings, list) else [settings]:
        assigner = TASK_UTILS.build(one.assigner)
        result = assigner.assign(priors, gt, InstanceData(bboxes=box[None]))
        assert result.gt_inds.tolist() == [-1]  # 0 would be background


# --- what is refused ---


def refuse(root: Path, **kwargs) -> InputError:
    """The error of building the data set."""
    with pytest.raises(InputError) as error:
        cells(root, **kwargs)
    assert error.value.reason and error.value.remedy
    return error.value


def damage_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_size(path: Path) -> None:
    tifffile.imwrite(path, np.ones((7, 9)))


def damage_values(path: Path) -> None:
    labels = tifffile.imread(path)
    labels[0, 0] = 0.5
    tifffile.imwrite(path, labels)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("class2.tif", damage_half, "truncated"),
        ("class2.tif", damage_size, "its size (H, W) is (7, 9)"),
        ("class2.tif", damage_values, "not integers"),
        ("ignore.tif", damage_size, "its size (H, W) is (7, 9)"),
        ("image.tif", damage_half, "truncated"),
        ("image.tif", Path.unlink, "image.tif is missing"),
        ("class7.tif", damage_size, "not a class of this data set"),
        ("class2.tiff", damage_size, "not a class of this data set"),
        ("class2.TIF", damage_size, "not a class of this data set"),
    ],
)
def test_bad_image_is_named_or_skipped_and_listed(tiny_copy, log, file, damage, reason):
    folder = with_class(tiny_copy, "class2").parent
    ids = {entry["name"]: entry["img_id"] for entry in cells(tiny_copy).data_list}
    damage(folder / file)
    error = refuse(tiny_copy)
    named = folder if reason == "image.tif is missing" else folder / file
    assert error.source == str(named)
    assert reason in error.reason

    log.clear()
    dataset = cells(tiny_copy, bad_files="skip")
    assert "1 of 6 images are left out" in log.text and str(error) in log.text
    assert dataset.left_out[0].args == error.args
    del ids[folder.name]  # the others keep theirs
    assert {e["name"]: e["img_id"] for e in dataset.data_list} == ids
    for path in (tiny_copy / "train").iterdir():
        (path / "image.tif").write_bytes(b"no image")
    assert "no image can be used" in refuse(tiny_copy, bad_files="skip").reason


def test_folder_that_is_not_there_or_empty(tmp_path):
    error = refuse(tmp_path)
    assert error.source == str(tmp_path / "train")
    assert "does not exist" in error.reason and "CELL_DATA_ROOT" in error.remedy
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "readme.txt").write_text("nothing here")
    assert "image folder" in refuse(tmp_path).reason


# --- colours and brightness ---


def loading(order: str | None) -> list[dict]:
    return [{"type": "LoadCellImage", "channel_order": order}]


def test_colours_that_contradict_the_order_are_refused(tiny_root):
    """The synthetic data are stored as the release is: red and blue exchanged."""
    assert len(cells(tiny_root, pipeline=loading("bgr"))) == 6
    assert len(cells(tiny_root, pipeline=loading(None))) == 6  # as old runs read
    error = refuse(tiny_root, pipeline=loading("rgb"))
    assert error.source == str(tiny_root / "train")
    assert "6 sampled images have red and blue exchanged" in error.reason
    assert "Set channel_order='bgr'" in error.remedy


def test_a_few_images_in_the_other_order_are_not_refused(tiny_copy, folders):
    for folder in folders[:3]:
        stored = tifffile.imread(folder / "image.tif")[..., [2, 1, 0]]
        tifffile.imwrite(folder / "image.tif", stored, photometric="rgb")
    for order in ("rgb", "bgr"):
        assert len(cells(tiny_copy, pipeline=loading(order))) == 6


def test_released_and_original_images_contradict_the_other_order(shared_data):
    for root, kind, order, other in (
        ("hw3_official", "CellDataset", "bgr", "rgb"),
        ("nuclei2021", "NucleiDataset", "rgb", "bgr"),
    ):
        options = {
            "type": kind,
            "data_root": str(shared_data / root),
            "data_prefix": {"img": "train"},
            "split": "random_70-30",
            "subset": "val",
        }
        assert len(DATASETS.build({**options, "pipeline": loading(order)}))
        with pytest.raises(InputError, match=f"channel_order='{order}'"):
            DATASETS.build({**options, "pipeline": loading(other)})


def test_dark_images_of_12_bits_are_warned_of(tiny_copy, folders, log):
    for folder in folders:
        image = read_image(folder / "image.tif").astype(np.uint16) * 16
        tifffile.imwrite(folder / "image.tif", image, photometric="rgb")
    cells(tiny_copy, pipeline=loading("bgr"))
    assert "need max_value=4095" in log.text
    assert log.records[-1].levelno == logging.WARNING
    log.clear()
    right = {"type": "LoadCellImage", "channel_order": "bgr", "max_value": 4095}
    cells(tiny_copy, pipeline=[right])
    assert "max_value" not in log.text
