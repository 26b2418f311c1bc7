from __future__ import annotations

import shutil

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from custom.datasets import NucleiDataset
from custom.errors import InputError
from tests.nuclei_data import write_nuclei


@pytest.fixture
def root(tmp_path):
    return write_nuclei(tmp_path / "data", n_train=4)


def build(root, **kwargs):
    init_default_scope("mmdet")
    pipeline = [
        {"type": "LoadCellImage"},
        {"type": "LoadLabelMasks"},
        {"type": "PackDetInputs"},
    ]
    cfg = {
        "type": "NucleiDataset",
        "data_root": str(root),
        "data_prefix": {"img": "train"},
        "cache_dir": str(root.parent / "cache"),
        "pipeline": pipeline,
    }
    return DATASETS.build({**cfg, **kwargs})


def test_every_mask_is_an_instance(root):
    dataset = build(root)
    assert dataset.metainfo["classes"] == ("nucleus",)
    for i in range(4):
        entry = dataset.get_data_info(i)
        masks = len(list((root / "train" / entry["name"] / "masks").iterdir()))
        sample = dataset[i]["data_samples"].gt_instances
        assert entry["counts"] == [masks] and len(sample) == masks
        assert (sample.labels == 0).all()
        assert sample.masks.areas.min() > 0
        assert dataset.get_cat_ids(i) == [0] * masks


def test_split_and_ids_are_those_of_cell_data(root):
    whole = build(root)
    ids = {whole.get_data_info(i)["name"]: i + 1 for i in range(4)}
    val = build(root, split="random_75-25_seed1", subset="val", test_mode=True)
    (name,) = val.split.val
    assert val.get_data_info(0)["img_id"] == ids[name]


def test_without_a_cache_the_label_images_leave_with_the_process(root):
    dataset = build(root, cache_dir="")
    ((label, path),) = dataset.get_data_info(0)["label_files"]
    assert label == 0 and path.startswith(dataset.cache_dir)
    shutil.rmtree(dataset.cache_dir)


def test_bad_images_stop_or_are_left_out(root):
    folders = sorted((root / "train").iterdir())
    (folders[0] / "images" / f"{folders[0].name}.png").unlink()
    shutil.rmtree(folders[1] / "masks")
    with pytest.raises(InputError, match=r"does not exist|no masks"):
        build(root)
    assert len(build(root, bad_files="skip")) == 2


def test_a_wrong_root_says_what_to_set(tmp_path):
    with pytest.raises(InputError, match="NUCLEI_DATA_ROOT"):
        build(tmp_path / "nowhere")
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"masks/\*\.png"):
        build(tmp_path / "data")


def test_the_data_science_bowl_has_the_same_layout(shared_data, tmp_path):
    root = shared_data / "dsb2018"
    dataset = NucleiDataset(
        data_root=str(root),
        data_prefix={"img": "stage1_train"},
        cache_dir=str(tmp_path),
        pipeline=[],
    )
    folders = sorted((root / "stage1_train").iterdir())
    counts = [sum(1 for _ in (f / "masks").glob("*.png")) for f in folders]
    assert [dataset.get_data_info(i)["counts"] for i in range(8)] == [
        [n] for n in counts
    ]
    assert np.sum(counts) > 100
