"""COCO JSON: what pycocotools and MMDetection's own data set read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import init_default_scope

from custom.datasets import CellDataset
from custom.datasets.splits import make_split
from custom.formats.coco import ANNOTATIONS, CocoWriter
from custom.formats.conversion import convert
from custom.formats.folders import find_layout
from custom.transforms import LoadLabelMasks

TOOL = "tools/data/convert.py"
CLASSES = ("class1", "class2", "class3", "class4")
# All classes, gaps in the classes, and 622 instances of one class.
REGIONS = (
    "TCGA-2Z-A9JG-01Z-00-DX1_6",
    "TCGA-49-6743-01Z-00-DX2_001",
    "TCGA-DW-7838-01Z-00-DX1_1",
    "TCGA-MH-A55W-01Z-00-DX1_4",
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.fixture
def real_train(hw3, tmp_path) -> Path:
    folder = tmp_path / "real"
    folder.mkdir()
    for name in REGIONS:
        (folder / name).symlink_to(hw3 / "train" / name)
    return folder


def cells(folder: Path, **kwargs) -> CellDataset:
    prefix = {"img": str(folder)}
    return CellDataset(data_prefix=prefix, serialize_data=False, **kwargs)


def export(folder: Path, out: Path, polygons: bool = False) -> Path:
    """Convert a folder and return the JSON file."""
    summary = convert(find_layout(folder), CocoWriter(CLASSES, polygons), out)
    assert not summary.failed
    return out / ANNOTATIONS


def stock(path: Path, folder: Path) -> CocoDataset:
    """MMDetection's own data set on an exported file."""
    return CocoDataset(
        ann_file=str(path),
        data_prefix={"img": str(folder)},
        metainfo={"classes": CLASSES},
        pipeline=[{"type": "LoadLabelMasks"}],
        test_mode=True,
    )


def assert_read_back(path: Path, folder: Path, expected: CellDataset) -> int:
    """The exported file holds the same images and instances; their number."""
    dataset, total = stock(path, folder), 0
    assert dataset.cat_ids == [1, 2, 3, 4]
    assert len(dataset) == len(expected)
    load = LoadLabelMasks()
    for i, entry in enumerate(expected.data_list):
        ours, theirs = load.transform(dict(entry)), dataset[i]
        assert theirs["img_id"] == entry["img_id"]
        assert Path(theirs["img_path"]) == Path(entry["img_path"])
        np.testing.assert_array_equal(
            theirs["gt_bboxes_labels"], ours["gt_bboxes_labels"]
        )
        np.testing.assert_array_equal(
            theirs["gt_bboxes"].numpy(), ours["gt_bboxes"].numpy()
        )
        assert not theirs["gt_ignore_flags"].any()
        assert theirs["gt_masks"].to_rle() == ours["gt_masks"].to_rle()
        given = [instance["bbox"] for instance in theirs["instances"]]
        np.testing.assert_array_equal(
            np.reshape(given, (-1, 4)), ours["gt_bboxes"].numpy()
        )
        total += len(ours["gt_masks"])
    return total


@pytest.mark.parametrize("polygons", [False, True])
def test_synthetic_data_is_read_back_by_the_stock_data_set(
    tiny_root, tmp_path, polygons
):
    folder, dataset = tiny_root / "train", cells(tiny_root / "train")
    path = export(folder, tmp_path / "out", polygons)
    total = assert_read_back(path, folder, dataset)
    assert total == sum(sum(entry["counts"]) for entry in dataset.data_list) > 20


def test_real_regions_are_read_back_by_the_stock_data_set(
    run_tool, real_train, tmp_path
):
    path = tmp_path / "new" / ANNOTATIONS
    out = run_tool(TOOL, "layout", real_train, path.parent, "--to", "coco")
    total = assert_read_back(path, real_train, cells(real_train))
    assert total == 48 + 5 + 2 + 9 + 8 + 18 + 622 + 2
    assert f"{path.parent}: 4 images, 48 class1, 635 class2, 4 class3, 27 class4" in out


# --- the command ---


def test_command_writes_the_subset_of_a_split(run_tool, tiny_root, tmp_path):
    folder = tiny_root / "train"
    split = make_split("random_67-33", {p.name: () for p in folder.iterdir()}, folder)
    split.save(tmp_path / "split.json")
    whole = {e["name"]: e["img_id"] for e in cells(folder).data_list}
    for spec in ("random_67-33", tmp_path / "split.json"):
        for subset, names in (("train", split.train), ("val", split.val)):
            out = tmp_path / f"{Path(spec).stem}-{subset}"
            args = ("--to", "coco", "--split", spec, "--subset", subset)
            run_tool(TOOL, "layout", folder, out, *args)
            images = json.loads((out / ANNOTATIONS).read_text())["images"]
            assert [i["file_name"] for i in images] == [f"{n}/image.tif" for n in names]
            # The same ids as in the whole data set.
            assert [i["id"] for i in images] == [whole[n] for n in names]
