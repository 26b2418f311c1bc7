"""Data sets in other layouts: one bitmap per nucleus, StarDist's folders, COCO JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from mmdet.registry import DATASETS
from pycocotools import mask as coco_mask

from custom.errors import InputError
from custom.workbench.synthetic import draw_tile
from tests.nuclei_data import write_nuclei

PIPELINE = [
    {"type": "LoadCellImage", "channel_order": "rgb"},
    {"type": "LoadLabelMasks"},
    {"type": "PackDetInputs"},
]


def build(kind: str, root: Path, **kwargs):
    cfg = {
        "type": kind,
        "data_root": str(root),
        "data_prefix": {"img": "train"},
        "pipeline": PIPELINE,
    }
    if kind == "NucleiDataset":
        cfg["cache_dir"] = str(root.parent / "cache")
    return DATASETS.build({**cfg, **kwargs})


def masks_of(dataset, i: int) -> np.ndarray:
    return dataset[i]["data_samples"].gt_instances.masks.to_ndarray()


# --- one bitmap per nucleus ---


@pytest.fixture
def nuclei(tmp_path):
    return write_nuclei(tmp_path / "data", n_train=4)


def test_every_bitmap_is_an_instance(nuclei):
    dataset = build("NucleiDataset", nuclei)
    assert dataset.metainfo["classes"] == ("nucleus",)
    assert len(dataset.metainfo["palette"]) == 1
    for i in range(4):
        entry = dataset.get_data_info(i)
        masks = len(list((nuclei / "train" / entry["name"] / "masks").iterdir()))
        sample = dataset[i]["data_samples"].gt_instances
        assert entry["counts"] == [masks] and len(sample) == masks
        assert (sample.labels == 0).all() and sample.masks.areas.min() > 0
    ids = {dataset.get_data_info(i)["name"]: i + 1 for i in range(4)}
    val = build("NucleiDataset", nuclei, split="random_75-25_seed1", subset="val")
    assert val.get_data_info(0)["img_id"] == ids[val.split.val[0]]


def test_bad_images_stop_or_are_left_out(nuclei, tmp_path):
    folders = sorted((nuclei / "train").iterdir())
    (folders[0] / "images" / f"{folders[0].name}.png").unlink()
    shutil.rmtree(folders[1] / "masks")
    with pytest.raises(InputError, match=r"is missing|lacks masks"):
        build("NucleiDataset", nuclei)
    assert len(build("NucleiDataset", nuclei, bad_files="skip")) == 2
    with pytest.raises(InputError, match="NUCLEI_DATA_ROOT"):
        build("NucleiDataset", tmp_path / "nowhere")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"masks/\*\.png"):
        build("NucleiDataset", tmp_path / "empty")


def test_the_data_science_bowl_has_the_same_layout(shared_data, tmp_path):
    root = shared_data / "dsb2018"
    prefix = {"img": "stage1_train"}
    dataset = build("NucleiDataset", root, data_prefix=prefix, cache_dir=str(tmp_path))
    folders = sorted((root / "stage1_train").iterdir())
    counts = [sum(1 for _ in (f / "masks").glob("*.png")) for f in folders]
    assert [dataset.get_data_info(i)["counts"] for i in range(8)] == [
        [n] for n in counts
    ]
    assert np.sum(counts) > 100


# --- StarDist's images/ and masks/, and COCO JSON, of the same drawn images ---


@pytest.fixture
def drawn(tmp_path):
    """Root, and the joined label image of each drawn image."""
    root, rng, labels = tmp_path / "data", np.random.default_rng(3), {}
    for part in ("images", "masks"):
        (root / "train" / part).mkdir(parents=True)
    categories = [{"id": 7, "name": "small"}, {"id": 9, "name": "large"}]
    coco = {"images": [], "annotations": [], "categories": categories}
    for number in range(4):
        image, planes = draw_tile(rng, (80, 100), classes=(1, 2))
        name, joined = f"image{number}", sum(planes)
        labels[name] = joined
        stored = image[..., ::-1]  # OpenCV writes BGR
        cv2.imwrite(str(root / "train/images" / f"{name}.png"), stored)
        tifffile.imwrite(root / "train/masks" / f"{name}.tif", joined.astype("u2"))
        row = {"file_name": f"{name}.png", "height": 80, "width": 100}
        coco["images"].append({**row, "id": 50 - number})
        for i in range(1, joined.max() + 1):
            rle = coco_mask.encode(np.asfortranarray(joined == i, np.uint8))
            counts = rle["counts"].decode()
            coco["annotations"].append(
                {
                    "image_id": 50 - number,
                    "category_id": 7 if (planes[1] == i).any() else 9,
                    "segmentation": {"size": rle["size"], "counts": counts},
                    "iscrowd": int(i == 1),
                }
            )
    (root / "coco.json").write_text(json.dumps(coco))
    return root, labels


def test_label_images_beside_images(drawn):
    root, labels = drawn
    dataset = build("LabelImageDataset", root, split="all")
    for i, (name, joined) in enumerate(sorted(labels.items())):
        assert dataset.get_data_info(i)["name"] == name
        assert dataset.get_data_info(i)["counts"] == [joined.max()]
        ids = np.arange(1, joined.max() + 1)
        expected = joined == ids[:, None, None]
        np.testing.assert_array_equal(masks_of(dataset, i), expected)


def test_label_images_and_images_must_be_pairs(drawn):
    root, _ = drawn
    (root / "train/masks/image2.tif").rename(root / "train/masks/other.tif")
    with pytest.raises(InputError, match="2 files lack a partner"):
        build("LabelImageDataset", root)
    shutil.rmtree(root / "train/masks")
    with pytest.raises(InputError, match="4 images and 0 masks"):
        build("LabelImageDataset", root)
    with pytest.raises(InputError, match="one class only"):
        build("LabelImageDataset", root, metainfo={"classes": ("a", "b")})


def coco(root: Path, **kwargs):
    options = {
        "ann_file": "coco.json",
        "data_prefix": {"img": "train/images"},
        "metainfo": {"classes": ("large", "small")},
    }
    return build("CocoCellDataset", root, **{**options, **kwargs})


def test_coco_json_is_split_counted_and_loaded(drawn):
    root, labels = drawn
    dataset = coco(root, split="random_50-50", subset="val")
    assert len(dataset) == 2
    for i in range(2):
        entry, sample = dataset.get_data_info(i), dataset[i]["data_samples"]
        joined = labels[entry["name"]]
        assert entry["img_id"] == 50 - int(entry["name"][-1])
        ids = np.arange(2, joined.max() + 1)  # the first is to be ignored
        expected = joined == ids[:, None, None]
        np.testing.assert_array_equal(masks_of(dataset, i), expected)
        np.testing.assert_array_equal(
            sample.ignored_instances.masks.to_ndarray()[0], joined == 1
        )
        result = np.bincount(sample.gt_instances.labels, minlength=2).tolist()
        assert entry["counts"] == result and sum(result) == len(ids)
    assert "annotations" in dataset.files()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("images"), "not COCO JSON"),
        (lambda d: d["images"][1].update(id=50), "not COCO JSON"),
        (lambda d: d["images"][1].update(file_name="image0.png"), "different names"),
        (lambda d: d["images"][1].update(height=81), "its size"),
        (lambda d: d["images"][1].update(file_name="gone.png"), "gone.png is missing"),
        (lambda d: d["categories"][0].update(name="tiny"), "not a class of"),
        (lambda d: d["annotations"][0].update(segmentation=None), "malformed"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3]]), "malformed"),
        (
            lambda d: d["annotations"][0]["segmentation"].update(counts=[1, 9]),
            "do not fill the image",
        ),
        (lambda d: d["annotations"][0]["segmentation"].update(size=[9, 9]), "size"),
    ],
)
def test_coco_json_that_cannot_be_used(drawn, change, reason):
    root, _ = drawn
    data = json.loads((root / "coco.json").read_text())
    change(data)
    (root / "coco.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=reason):
        coco(root)
