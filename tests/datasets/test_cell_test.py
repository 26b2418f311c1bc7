"""CellTestDataset: official ids, and a list that does not fit the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from mmdet.registry import DATASETS
from mmengine.config import Config

import custom.transforms  # noqa: F401, registers what the configs name
from custom.datasets import CellTestDataset
from custom.engine.configs import set_submission
from custom.errors import InputError
from custom.io.image import read_image

LIST = "test_image_name_to_ids.json"


def images(root: Path, ann_file: str = LIST, **kwargs) -> CellTestDataset:
    return CellTestDataset(
        data_root=str(root),
        ann_file=ann_file,
        data_prefix={"img": "test_release"},
        serialize_data=False,
        **kwargs,
    )


def refuse(root: Path, **kwargs) -> InputError:
    with pytest.raises(InputError) as error:
        images(root, **kwargs)
    assert error.value.reason and error.value.remedy
    return error.value


def rows_of(root: Path) -> list[dict]:
    return json.loads((root / LIST).read_text())


def change(root: Path, rows: object) -> str:
    (root / LIST).write_text(json.dumps(rows))
    return str(root / LIST)


def test_entries_have_the_ids_and_the_order_of_the_list(tiny_copy):
    rows = rows_of(tiny_copy)
    rows[0]["id"], rows[1]["id"] = 101, 7
    change(tiny_copy, rows)
    dataset = images(tiny_copy)
    assert dataset.test_mode
    assert dataset.data_list == [
        {
            "img_path": str(tiny_copy / "test_release" / row["file_name"]),
            "img_id": row["id"],
            "name": row["file_name"],
            "height": row["height"],
            "width": row["width"],
        }
        for row in rows
    ]


def test_real_list_gives_the_released_images(hw3, repo, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(hw3))
    cfg = Config.fromfile(repo / "configs/_base_/datasets/cell.py")
    set_submission(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert isinstance(dataset, CellTestDataset)
    assert [dataset.get_data_info(i)["img_id"] for i in range(7)] == [
        *(67, 68, 75, 76, 77, 78, 79)
    ]
    sample = dataset[2]
    meta = sample["data_samples"].metainfo
    assert (meta["img_id"], meta["ori_shape"]) == (75, (125, 171))
    bgr = sample["inputs"].numpy().transpose(1, 2, 0)
    path = hw3 / "test_release" / meta["name"]
    np.testing.assert_array_equal(bgr, read_image(path))


def test_absent_image(tiny_copy, log):
    rows = rows_of(tiny_copy)
    (tiny_copy / "test_release" / rows[0]["file_name"]).unlink()
    error = refuse(tiny_copy)
    assert "1 of its 2 files" in error.reason
    assert rows[0]["file_name"] in error.reason
    dataset = images(tiny_copy, bad_files="skip")
    assert [entry["name"] for entry in dataset.data_list] == [rows[1]["file_name"]]


def lists(change) -> bytes:
    """The JSON of two rows after a change."""
    keys = ("file_name", "id", "height", "width")
    rows = [dict(zip(keys, (f"{i}.tif", i, 96, 96), strict=True)) for i in (1, 2)]
    change(rows)
    return json.dumps(rows).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"images": []}', "not a list of test images"),
        (b"[]", "not a list of test images"),
        (b'[["a.tif", 1, 2, 3]]', "entry 0 lacks a valid file_name"),
        (b"\xff\xfe\x00", "not JSON"),
        (None, "does not exist"),
        (lists(lambda r: r[1].update(id="7")), "entry 1 lacks a valid id"),
        (lists(lambda r: r[1].update(id=True)), "entry 1 lacks a valid id"),
        (lists(lambda r: r[1].update(width=96.5)), "entry 1 lacks a valid width"),
        (lists(lambda r: (r[0].pop("id"), r[0].pop("width"))), "valid id, width"),
        (lists(lambda r: r[1].update(id=1)), "id 1 occurs twice"),
        (
            lists(lambda r: r[1].update(file_name="1.tif")),
            "file_name '1.tif' occurs twice",
        ),
    ],
)
def test_list_that_cannot_be_used(tiny_copy, content, reason):
    (tiny_copy / LIST).unlink()
    if content is not None:
        (tiny_copy / LIST).write_bytes(content)
    error = refuse(tiny_copy)
    assert error.source == str(tiny_copy / LIST)
    assert reason in error.reason and LIST in error.remedy


@pytest.mark.parametrize("damage", ["half", "size"])
def test_bad_image_is_named_or_skipped_and_listed(tiny_copy, log, damage):
    rows = rows_of(tiny_copy)
    path = tiny_copy / "test_release" / rows[0]["file_name"]
    if damage == "half":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        tifffile.imwrite(path, np.zeros((9, 8, 3), np.uint8), photometric="rgb")
    error = refuse(tiny_copy)
    assert error.source == str(path)
    listed = rows[0]["height"], rows[0]["width"]
    expected = {"half": "truncated", "size": "is (9, 8), the list of test images says"}
    assert expected[damage] in error.reason
    assert damage == "half" or str(listed) in error.reason
    assert len(images(tiny_copy, bad_files="skip")) == 1
    assert str(error) in log.text
