"""Regions to ignore, from ``ignore.tif`` to what the assigner and the metric see."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from custom.errors import InputError

PIPELINE = [
    {"type": "LoadCellImage"},
    {"type": "LoadLabelMasks"},
    {"type": "RandomFlip", "prob": 1.0},
    {"type": "PackDetInputs"},
]


def build(root, **kwargs):
    init_default_scope("mmdet")
    cfg = {
        "type": "CellDataset",
        "data_root": str(root),
        "data_prefix": {"img": "train"},
        "serialize_data": False,
        "pipeline": PIPELINE,
    }
    return DATASETS.build({**cfg, **kwargs})


@pytest.fixture
def root(tiny_copy):
    """Data whose first image has two regions to ignore, one over cells."""
    folder = min((tiny_copy / "train").iterdir())
    size = tifffile.imread(folder / "image.tif").shape[:2]
    ignore = np.zeros(size, np.uint16)
    ignore[:, :40] = 4
    ignore[50:60, 50:60] = 9
    tifffile.imwrite(folder / "ignore.tif", ignore, compression="zlib")
    return tiny_copy


@pytest.mark.parametrize("cache", [False, True])
def test_regions_to_ignore_go_where_mmdetection_expects_them(root, tmp_path, cache):
    load = {"type": "LoadLabelMasks"}
    if cache:
        load["cache_dir"] = str(tmp_path / "cache")
    dataset = build(root, pipeline=[PIPELINE[0], load, *PIPELINE[2:]])
    for _ in range(1 + cache):
        sample = dataset[0]["data_samples"]
        ignored = sample.ignored_instances
        folder = min((root / "train").iterdir())
        mask = tifffile.imread(folder / "ignore.tif")[:, ::-1]
        expected = np.stack([mask == 4, mask == 9])
        np.testing.assert_array_equal(ignored.masks.to_ndarray(), expected)
        assert ignored.labels.tolist() == [-1, -1]
        assert len(sample.gt_instances) == sum(dataset.get_data_info(0)["counts"])
        # Cells under a region keep their pixels.
        joined = sample.gt_instances.masks.to_ndarray().any(0)
        files = folder.glob("class*.tif")
        cells = sum(tifffile.imread(p) > 0 for p in files)[:, ::-1] > 0
        np.testing.assert_array_equal(joined, cells)
        assert (joined & expected[0]).any()
    assert len(dataset[1]["data_samples"].ignored_instances) == 0


def test_regions_to_ignore_are_no_class_of_the_split_or_the_counts(root):
    dataset = build(root)
    assert len(dataset.get_data_info(0)["counts"]) == 4
    assert -1 not in dataset.get_cat_ids(0)


def test_training_can_leave_them_out(root):
    """With ``ignore_iof_thr`` no background is learnt in a region to ignore."""
    ignored = build(root)[0]["data_samples"].ignored_instances
    box = ignored.bboxes.tensor[0]
    centre = (box[:2] + box[2:]) / 2
    priors = torch.cat([centre - 3, centre + 3])[None]
    gt = InstanceData(bboxes=torch.tensor([[90.0, 90, 95, 95]]), labels=torch.zeros(1))
    ignore = InstanceData(bboxes=box[None])
    for threshold, expected in ((-1, 0), (0.5, -1)):
        assigner = MaxIoUAssigner(
            0.5, 0.5, ignore_iof_thr=threshold, match_low_quality=False
        )
        result = assigner.assign(InstanceData(priors=priors), gt, ignore)
        assert result.gt_inds.tolist() == [expected]


def test_a_bad_ignore_mask_is_named(root):
    path = min((root / "train").iterdir()) / "ignore.tif"
    tifffile.imwrite(path, np.ones((3, 4), np.uint16))
    with pytest.raises(InputError, match=r"ignore\.tif: its size"):
        build(root)
