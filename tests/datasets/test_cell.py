"""CellDataset: the index, its errors, and the way into the stock pipeline."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from custom.datasets import CellDataset
from custom.datasets.splits import Split, make_split
from custom.errors import InputError
from custom.io.image import read_image
from custom.structures import LabelMasks
from custom.transforms import LoadLabelMasks

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


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.fixture
def regions(hw3, tmp_path) -> Path:
    """A data root of a few real regions."""
    folder = tmp_path / "real" / "train"
    folder.mkdir(parents=True)
    for name in REGIONS:
        (folder / name).symlink_to(hw3 / "train" / name)
    return folder.parent


@pytest.fixture
def log(caplog):
    """What MMEngine's logger, which the root logger does not see, is given."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def cells(root: Path, **kwargs) -> CellDataset:
    return CellDataset(data_root=str(root), data_prefix={"img": "train"}, **kwargs)


def image_folders(root: Path) -> list[Path]:
    return sorted((root / "train").iterdir())


def with_class(root: Path, name: str) -> Path:
    """A class file of some image that has it."""
    return min((root / "train").glob(f"*/{name}.tif"))


def naive_instances(folder: Path) -> list[tuple[int, np.ndarray]]:
    """(label, (H, W) bool) of each id, by one comparison each."""
    found = []
    for label, name in enumerate(CLASSES):
        if (folder / f"{name}.tif").exists():
            image = tifffile.imread(folder / f"{name}.tif")
            found += [(label, image == i) for i in np.unique(image) if i > 0]
    return found


def assert_instances_are_those_on_disk(folder: Path, results: dict) -> None:
    naive = naive_instances(folder)
    masks = results["gt_masks"]
    assert len(masks) == len(naive)
    assert results["gt_bboxes_labels"].tolist() == [label for label, _ in naive]
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_ignore_flags"].tolist() == [False] * len(naive)
    bitmaps, boxes = masks.to_ndarray(), results["gt_bboxes"].tensor.numpy()
    for (_, expected), bitmap, box in zip(naive, bitmaps, boxes, strict=True):
        np.testing.assert_array_equal(bitmap, expected)
        ys, xs = np.nonzero(expected)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


# --- the index ---


def test_entries_describe_what_is_on_disk(tiny_root):
    dataset = cells(tiny_root)
    folders = image_folders(tiny_root)
    assert len(dataset) == len(folders) == 6
    for number, folder in enumerate(folders):
        entry = dataset.get_data_info(number)
        image = tifffile.imread(folder / "image.tif")
        counts = [0] * 4
        for label, _ in naive_instances(folder):
            counts[label] += 1
        present = [i for i, c in enumerate(CLASSES) if (folder / f"{c}.tif").exists()]
        assert entry == {
            "img_path": str(folder / "image.tif"),
            "img_id": number + 1,
            "name": folder.name,
            "height": image.shape[0],
            "width": image.shape[1],
            "label_files": [(i, str(folder / f"{CLASSES[i]}.tif")) for i in present],
            "counts": counts,
            "sample_idx": number,
        }
    assert dataset.metainfo["classes"] == CLASSES
    assert len(dataset.metainfo["palette"]) == 4


def test_ids_do_not_depend_on_the_split(tiny_root):
    whole = cells(tiny_root, serialize_data=False).data_list
    ids = {entry["name"]: entry["img_id"] for entry in whole}
    assert sorted(ids.values()) == [1, 2, 3, 4, 5, 6]
    seen = set()
    for split in ("random_50-50_seed1", "kfold_3-1", "stratified_80-20"):
        for subset in ("train", "val"):
            part = cells(tiny_root, split=split, subset=subset, serialize_data=False)
            for entry in part.data_list:
                assert entry["img_id"] == ids[entry["name"]]
                seen.add((split, subset, entry["img_id"]))
    assert len(seen) == 3 * 6


def test_subsets_are_the_two_parts_of_the_split_file(tiny_root, tmp_path):
    names = [folder.name for folder in image_folders(tiny_root)]
    path = tmp_path / "my.json"
    Split("my", "random", 1, (names[4], names[0]), (names[2],)).save(path)
    for subset, expected in (("train", [names[4], names[0]]), ("val", [names[2]])):
        dataset = cells(tiny_root, split=str(path), subset=subset, serialize_data=False)
        assert [entry["name"] for entry in dataset.data_list] == expected
        assert dataset.split == Split.load(path)


def test_missing_class_file_means_that_the_class_is_absent(tiny_copy):
    path = with_class(tiny_copy, "class1")
    before = cells(tiny_copy, serialize_data=False).data_list
    path.unlink()
    after = cells(tiny_copy, serialize_data=False).data_list
    for old, new in zip(before, after, strict=True):
        if old["name"] != path.parent.name:
            assert old == new
            continue
        assert old["counts"][0] > 0
        assert new["counts"] == [0, *old["counts"][1:]]
        assert str(path) not in [file for _, file in new["label_files"]]


def test_image_without_cells_is_a_negative(tiny_root):
    dataset = cells(tiny_root, pipeline=[{"type": "LoadLabelMasks"}])
    empty = [
        i for i in range(6) if not naive_instances(Path(dataset[i]["img_path"]).parent)
    ]
    assert len(empty) == 1
    results = dataset[empty[0]]
    assert results["counts"] == [0, 0, 0, 0] and results["label_files"] == []
    masks = results["gt_masks"]
    assert isinstance(masks, LabelMasks) and len(masks) == 0
    assert (masks.height, masks.width) == (results["height"], results["width"])
    assert results["gt_bboxes"].tensor.shape == (0, 4)
    assert results["gt_bboxes_labels"].shape == (0,)


@pytest.mark.parametrize("filter_cfg", [None, {}, {"filter_empty_gt": False}])
def test_empty_images_stay_unless_filtered(tiny_root, filter_cfg):
    assert len(cells(tiny_root, filter_cfg=filter_cfg)) == 6


def test_filter_empty_gt_drops_the_image_without_cells_in_training_only(tiny_root):
    wanted = {"filter_empty_gt": True}
    dataset = cells(tiny_root, filter_cfg=wanted, serialize_data=False)
    assert len(dataset) == 5
    assert all(sum(entry["counts"]) for entry in dataset.data_list)
    assert len(cells(tiny_root, filter_cfg=wanted, test_mode=True)) == 6


def test_get_cat_ids_has_one_label_per_instance(tiny_root):
    dataset = cells(tiny_root)
    for number, folder in enumerate(image_folders(tiny_root)):
        expected = [label for label, _ in naive_instances(folder)]
        assert dataset.get_cat_ids(number) == expected


def test_index_keeps_no_pixels(tiny_root):
    dataset = cells(tiny_root, serialize_data=False)
    pixels = sum(entry["height"] * entry["width"] for entry in dataset.data_list)
    size = len(pickle.dumps(dataset.data_list))
    assert size < 1000 * len(dataset) < pixels


@pytest.mark.parametrize("lazy", [True, False])
def test_lazy_dataset_reads_nothing_before_full_init(tmp_path, lazy):
    if lazy:
        assert cells(tmp_path, lazy_init=True)._fully_initialized is False
    else:
        with pytest.raises(InputError):
            cells(tmp_path)


# --- with stock parts ---


def test_stock_class_balanced_dataset_repeats_images_of_rare_classes(tiny_root):
    dataset = cells(tiny_root)
    labels = [set(dataset.get_cat_ids(i)) for i in range(6)]
    share = {c: sum(c in own for own in labels) / 6 for c in range(4)}
    assert min(share.values()) < 0.9
    balanced = ClassBalancedDataset(dataset, oversample_thr=0.9)
    balanced.full_init()
    for i, own in enumerate(labels):
        factor = max([1.0, *((0.9 / share[c]) ** 0.5 for c in own)])
        assert balanced.repeat_indices.count(i) == int(np.ceil(factor))
    names = [balanced.get_data_info(i)["name"] for i in range(len(balanced))]
    assert len(set(names)) == 6 < len(names)


def test_stock_repeat_dataset(tiny_root):
    repeated = RepeatDataset(cells(tiny_root), times=3)
    assert len(repeated) == 18
    first = [repeated.get_data_info(i)["name"] for i in range(6)]
    assert [repeated.get_data_info(i)["name"] for i in range(12, 18)] == first


def test_default_pipelines_load_real_regions(regions, monkeypatch, repo, tmp_path):
    split = make_split("random_50-50", {name: [] for name in REGIONS}, regions)
    split.save(tmp_path / "split.json")
    monkeypatch.setenv("CELL_DATA_ROOT", str(regions))
    monkeypatch.setenv("CELL_SPLIT", str(tmp_path / "split.json"))
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tmp_path / "cache"))
    cfg = Config.fromfile(repo / "configs/_base_/datasets/cell.py")
    np.random.seed(0)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    val = DATASETS.build(cfg.val_dataloader.dataset)
    names = [d.get_data_info(i)["name"] for d in (train, val) for i in range(3)]
    assert (tuple(names[:3]), tuple(names[3:])) == (split.train, split.val)

    for i in range(3):
        info, sample = train.get_data_info(i), train[i]
        gt = sample["data_samples"].gt_instances
        height, width = sample["inputs"].shape[1:]
        assert sample["inputs"].dtype == torch.uint8
        assert height <= 1024 and width <= 1024
        assert isinstance(gt.masks, LabelMasks)
        assert (gt.masks.height, gt.masks.width) == (height, width)
        # Only cells that are lost by scaling and cropping are gone.
        assert 0 < len(gt) <= sum(info["counts"])
        np.testing.assert_array_equal(gt.masks.boxes(), gt.bboxes.tensor.numpy())
        assert (gt.masks.areas > 0).all()

    for i in range(3):
        info, sample = val.get_data_info(i), val[i]
        folder = Path(info["img_path"]).parent
        bgr = sample["inputs"].numpy().transpose(1, 2, 0)
        # Stored with red and blue exchanged, turned at loading.
        np.testing.assert_array_equal(bgr, read_image(folder / "image.tif"))
        meta = sample["data_samples"].metainfo
        assert meta["img_id"] == info["img_id"] and meta["name"] == info["name"]
        assert meta["ori_shape"] == (info["height"], info["width"])
        gt = sample["data_samples"].gt_instances
        assert np.bincount(gt.labels, minlength=4).tolist() == info["counts"]


@pytest.mark.parametrize("name", REGIONS)
def test_real_instances_equal_one_comparison_per_id(regions, name):
    split = Split("one", "random", 0, (name,), ())
    split.save(regions / "one.json")
    dataset = cells(
        regions,
        split=str(regions / "one.json"),
        pipeline=[{"type": "LoadLabelMasks"}],
    )
    assert_instances_are_those_on_disk(regions / "train" / name, dataset[0])


def test_synthetic_instances_equal_one_comparison_per_id(tiny_root):
    dataset = cells(tiny_root, pipeline=[{"type": "LoadLabelMasks"}])
    for number, folder in enumerate(image_folders(tiny_root)):
        assert_instances_are_those_on_disk(folder, dataset[number])


def test_overlapping_classes_and_wide_ids_lose_no_pixel(tmp_path):
    shape = (12, 15)
    first, second = np.zeros(shape), np.zeros(shape)
    first[2:8, 2:8], first[9, :] = 2**31 - 1, 70_000
    second[5:11, 5:11] = 300
    for name, image in (("class1", first), ("class4", second)):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    entry = {
        "height": 12,
        "width": 15,
        "label_files": [
            (0, str(tmp_path / "class1.tif")),
            (3, str(tmp_path / "class4.tif")),
        ],
    }
    assert_instances_are_those_on_disk(tmp_path, LoadLabelMasks().transform(entry))


# --- what is refused ---


def refuse(root: Path, **kwargs) -> InputError:
    """The error of building; with bad_files='skip' the image is left out instead."""
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
        ("image.tif", damage_half, "truncated"),
        ("image.tif", Path.unlink, "image.tif is missing"),
        ("class7.tif", damage_size, "no class of this data set"),
        ("class2.tiff", damage_size, "no class of this data set"),
        ("class2.TIF", damage_size, "no class of this data set"),
    ],
)
def test_bad_image_is_named_or_skipped_and_listed(tiny_copy, log, file, damage, reason):
    folder = with_class(tiny_copy, "class2").parent
    damage(folder / file)
    error = refuse(tiny_copy)
    named = folder if reason == "image.tif is missing" else folder / file
    assert error.source == str(named)
    assert reason in error.reason

    log.clear()
    dataset = cells(tiny_copy, bad_files="skip", serialize_data=False)
    assert folder.name not in [entry["name"] for entry in dataset.data_list]
    assert len(dataset) == 5
    assert "1 of 6 images are left out" in log.text
    assert str(error) in log.text


def test_skip_says_nothing_when_all_is_well(tiny_root, log):
    assert len(cells(tiny_root, bad_files="skip")) == 6
    assert "left out" not in log.text


def test_every_bad_image_is_listed(tiny_copy, log):
    folders = image_folders(tiny_copy)
    for folder in folders[:4]:
        damage_half(folder / "image.tif")
    dataset = cells(tiny_copy, bad_files="skip", serialize_data=False)
    assert len(dataset) == 2
    assert "4 of 6 images are left out" in log.text
    assert all(str(folder / "image.tif") in log.text for folder in folders[:4])


def test_skip_does_not_go_on_with_nothing(tiny_copy):
    for folder in image_folders(tiny_copy):
        damage_half(folder / "image.tif")
    assert "no image can be used" in refuse(tiny_copy, bad_files="skip").reason


def test_ids_stay_when_an_image_is_skipped(tiny_copy):
    before = cells(tiny_copy, serialize_data=False).data_list
    damage_half(image_folders(tiny_copy)[0] / "image.tif")
    after = cells(tiny_copy, bad_files="skip", serialize_data=False).data_list
    assert after == before[1:]


def test_file_of_an_unselected_image_is_not_read(tiny_copy):
    split = make_split(
        "random_50-50", {f.name: [] for f in image_folders(tiny_copy)}, tiny_copy
    )
    split.save(tiny_copy / "split.json")
    damage_half(tiny_copy / "train" / split.val[0] / "image.tif")
    spec = str(tiny_copy / "split.json")
    assert len(cells(tiny_copy, split=spec)) == 3
    refuse(tiny_copy, split=spec, subset="val")


def test_missing_folder(tmp_path):
    error = refuse(tmp_path)
    assert error.source == str(tmp_path / "train")
    assert "does not exist" in error.reason and "CELL_DATA_ROOT" in error.remedy


def test_folder_without_images(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "readme.txt").write_text("nothing here")
    error = refuse(tmp_path)
    assert error.source == str(tmp_path / "train")
    assert "no image folder" in error.reason


def test_subset_without_images(tiny_root):
    error = refuse(tiny_root, split="all", subset="val")
    assert "has no val images" in error.reason and "val_dataloader" in error.remedy


def test_split_of_other_images(tiny_copy, tmp_path):
    split = make_split(
        "random_50-50", {f.name: [] for f in image_folders(tiny_copy)}, tiny_copy
    )
    split.save(tmp_path / "split.json")
    shutil.rmtree(tiny_copy / "train" / split.val[1])
    error = refuse(tiny_copy, split=str(tmp_path / "split.json"))
    assert "names 1 images" in error.reason and split.val[1] in error.reason


@pytest.mark.parametrize("option", ["split", "subset", "bad_files"])
def test_unknown_option_is_named(tiny_root, option):
    error = refuse(tiny_root, **{option: "nonsense"})
    assert "nonsense" in str(error)
