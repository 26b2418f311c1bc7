"""The prediction file: nothing is lost in it, and bad ones are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from mmengine.structures import InstanceData

from custom.errors import InputError
from custom.evaluation import PredictionDump, Predictions, read_predictions
from custom.evaluation.submission import write_submission
from tests.dense_masks import seeds
from tests.prediction_data import CLASSES, SIZE, make_scene


def assert_equal(a: Predictions, b: Predictions) -> None:
    assert (a.classes, a.info, len(a.images)) == (b.classes, b.info, len(b.images))
    for one, two in zip(a.images, b.images, strict=True):
        assert (one.img_id, one.name, one.size) == (two.img_id, two.name, two.size)
        for key in ("labels", "scores", "boxes"):
            np.testing.assert_array_equal(getattr(one, key), getattr(two, key))
            assert getattr(one, key).dtype == getattr(two, key).dtype
        assert one.rles == two.rles


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_file_gives_back_every_bit(seed, tmp_path_factory):
    predictions, _ = make_scene(seed)
    path = tmp_path_factory.mktemp("run") / "predictions.json"
    predictions.save(path)
    assert_equal(read_predictions(path), predictions)


def test_dump_writes_what_the_model_gave(tmp_path):
    predictions, _ = make_scene(0)
    metric = PredictionDump(str(tmp_path), predictions.info)
    metric.dataset_meta = {"classes": CLASSES}
    samples = [
        {
            "img_id": image.img_id,
            "name": image.name,
            "ori_shape": (*image.size, 3),
            "pred_instances": InstanceData(
                labels=torch.from_numpy(image.labels),
                scores=torch.from_numpy(image.scores).float(),
                bboxes=torch.from_numpy(image.boxes).float(),
                masks=image.rles,
            ),
        }
        for image in predictions.images
    ]
    metric.process({}, samples[:2])
    metric.process({}, samples[2:])
    assert metric.evaluate(len(samples)) == {}
    assert_equal(read_predictions(tmp_path), predictions)


def test_submission_as_list_zip_or_folder_is_read(tmp_path):
    predictions, _ = make_scene(1)
    path = write_submission(predictions.entries(), tmp_path)
    listed = [
        {"id": i.img_id, "file_name": i.name, "height": i.size[0], "width": i.size[1]}
        for i in predictions.images
    ]
    for source in (path, tmp_path / "test-results.json", tmp_path):
        result = read_predictions(source, listed)
        assert result.classes == () and result.info == {}
        for one, two in zip(result.images, predictions.images, strict=True):
            assert (one.name, one.size, one.rles) == (two.name, two.size, two.rles)
            np.testing.assert_array_equal(one.labels, two.labels)
            np.testing.assert_allclose(one.boxes, two.boxes, atol=0.011)
    alone = read_predictions(path)
    with_detections = [i.img_id for i in predictions.images if len(i)]
    assert [image.img_id for image in alone.images] == with_detections


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: [1, 2],
        lambda d: "predictions",
        lambda d: d["images"].append(d["images"][0]),
        lambda d: d.__delitem__("categories"),
        lambda d: d["categories"][0].update(id=0),
        lambda d: d["annotations"][0].update(image_id=99),
        lambda d: d["annotations"][0].update(category_id=4),
        lambda d: d["annotations"][0].update(category_id=0),
        lambda d: d["annotations"][0].__delitem__("score"),
        lambda d: d["annotations"][0].update(score=float("nan")),
        lambda d: d["annotations"][0].update(bbox=[1, 2, 3]),
        lambda d: d["annotations"][0]["segmentation"].update(size=SIZE[::-1]),
        lambda d: d["annotations"][0]["segmentation"].update(counts="0"),
        lambda d: d["annotations"][0].update(segmentation=[[0, 0, 1, 1, 2, 0]]),
    ],
    ids=map(str, range(14)),
)
def test_damaged_file_ends_in_one_sentence(damage, tmp_path):
    path = tmp_path / "predictions.json"
    predictions, _ = make_scene(0)
    predictions.save(path)
    with pytest.raises(InputError, match="exists already"):
        predictions.save(path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps(damage(data) or data))
    with pytest.raises(InputError, match=r"predictions\.json"):
        read_predictions(path)


def write_zip_of_two(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"PK\3\4 cut"), "not JSON"),
        (lambda path: path.write_text('{"info": '), "not JSON"),
        (lambda path: path.mkdir(), "lacks a predictions.json or submission"),
        (write_zip_of_two, "not JSON"),
    ],
)
def test_what_is_no_prediction_file_is_named(write, reason, tmp_path):
    path = tmp_path / "some.file"
    write(path)
    with pytest.raises(InputError, match=reason):
        read_predictions(path)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "predictions.json"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(InputError, match="more than 1073741824"):
        read_predictions(path)
