"""Tuning without the network: the model's own detections and COCO's own figures."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict

from custom.errors import InputError
from custom.evaluation import RawDump, RawPredictions, raw_test_cfg
from custom.evaluation.cell_coco_metric import average_precision
from custom.evaluation.raw_predictions import RawImage
from custom.evaluation.tuning import GRID, Truth, Tuner, with_value
from tests.dense_masks import seeds
from tests.prediction_data import CLASSES, SIZE, discs, draw_discs, make_scene

PLAIN = {
    "score_thr": 0.05,
    "nms": {"type": "nms", "iou_threshold": 0.5},
    "max_per_img": 100,
    "mask_thr_binary": 0.5,
}


def raw_scene(seed: int) -> tuple[RawPredictions, dict[str, Truth]]:
    """Raw predictions whose masks are blurred discs in their boxes, and the truth."""
    predictions, truth = make_scene(seed)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28] - 13.5
    disc = 1 / (1 + np.exp((np.hypot(y, x) - 13) / 2))
    images = [
        RawImage(
            image.img_id,
            image.name,
            image.size,
            image.labels[order],
            image.scores[order].astype(np.float32),
            image.boxes[order].astype(np.float32),
            (disc * rng.uniform(0.7, 1, (len(order), 1, 1)) * 65535).astype(np.uint16),
        )
        for image in predictions.images
        for order in [np.argsort(-image.scores)]
    ]
    truths = {t["name"]: Truth(t["gt_labels"], t["gt_rles"]) for t in truth}
    return RawPredictions(CLASSES, images, {"max_dets": 1000}), truths


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    nms=st.sampled_from(GRID["nms"]),
    score_thr=st.sampled_from([0.001, 0.3]),
    most=st.sampled_from([5, 100]),
    mask_thr=st.sampled_from([0.3, 0.5]),
    least=st.sampled_from([None, [0, 40, 80]]),
    ignored=st.booleans(),
)
def test_ap50_is_that_of_the_full_evaluation(
    seed, nms, score_thr, most, mask_thr, least, ignored
):
    raw, truths = raw_scene(seed)
    if ignored:
        boxes = discs(np.random.default_rng(seed), 3)
        boxes[:, 2:] += 10
        truths = {n: replace(t, ignored=draw_discs(boxes)) for n, t in truths.items()}
    setting = {
        "score_thr": score_thr,
        "nms": nms,
        "max_per_img": most,
        "mask_thr_binary": mask_thr,
        "min_area": least,
    }
    tuner = Tuner(raw, truths)
    rows = [
        {
            "name": name,
            "gt_labels": t.labels,
            "gt_rles": t.rles,
            "ignored_rles": t.ignored,
        }
        for name, t in truths.items()
    ]
    results = tuner.predictions(setting).results(rows)
    expected = average_precision(results, CLASSES, "segm", 1000)
    assert tuner.score(setting) == pytest.approx(expected["mAP_50"], abs=1e-9)


def test_f1_counts_every_detection_alike():
    raw, truths = raw_scene(4)
    tuner = Tuner(raw, truths, "f1")
    values = []
    for label in range(len(CLASSES)):
        hits = detections = cells = 0
        for image in tuner.images:
            index, _ = tuner.detections(image, PLAIN)
            matches = image.at(0.5)[2]
            own = [matches[i] for i in index if image.raw.labels[i] == label]
            hits += len({gt for match in own for gt in match[:1]})
            detections += len(own)
            cells += int((image.truth.labels == label).sum())
        values.append(2 * hits / (detections + cells))
    assert tuner.score(PLAIN) == pytest.approx(np.mean(values))


@pytest.mark.parametrize("metric", ["ap50", "f1"])
def test_search_ends_where_no_single_change_gains(metric):
    raw, truths = raw_scene(7)
    tuner = Tuner(raw, truths, metric)
    best, value, rows = tuner.search(dict(PLAIN))
    assert tuner.score(best) == value >= tuner.score(PLAIN)
    for key, label, candidate, score in rows:
        trial = with_value(best, key, label, candidate, len(CLASSES))
        assert tuner.score(trial) == score < value + 5e-4
    if metric == "f1":  # a detection of nothing costs it as much as one of a cell
        assert value > tuner.score(PLAIN) + 0.02


def test_raw_file_gives_back_every_bit_and_bad_ones_are_refused(tmp_path):
    raw, _ = raw_scene(0)
    path = tmp_path / "raw.npz"
    raw.save(path)
    found = RawPredictions.load(path)
    assert (found.classes, found.info) == (raw.classes, raw.info)
    for one, two in zip(found.images, raw.images, strict=True):
        assert (one.img_id, one.name, one.size) == (two.img_id, two.name, two.size)
        for key in ("labels", "scores", "boxes", "probs"):
            np.testing.assert_array_equal(getattr(one, key), getattr(two, key))
    whole = path.read_bytes()
    for bad in (b"", b"[]", whole[: len(whole) // 2]):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="no raw predictions"):
            RawPredictions.load(path)
    with pytest.raises(InputError, match="does not exist"):
        RawPredictions.load(tmp_path / "other.npz")


def test_raw_files_of_folds_are_joined_unless_they_do_not_fit():
    (one, _), (two, _) = raw_scene(0), raw_scene(1)
    for image in two.images:
        image.name = f"other {image.name}"
    joined = RawPredictions.join([one, two], ["a.npz", "b.npz"])
    assert joined.images == one.images + two.images
    for bad, reason in (
        (one, "b.npz: image0 is in another file too"),
        (replace(two, classes=("x",)), "b.npz: its classes or test_cfg"),
        (replace(two, info={"rcnn": {}, "max_dets": 7}), "b.npz: its classes or test"),
    ):
        with pytest.raises(InputError, match=reason):
            RawPredictions.join([one, bad], ["a.npz", "b.npz"])


@pytest.fixture(scope="module")
def model(repo) -> torch.nn.Module:
    """The demo model with random weights and few proposals."""
    register_all_modules()
    cfg = Config.fromfile(repo / "configs/demo/maskrcnn_r18-slim.py")
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg.rpn.max_per_img = 60
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    # Scores of random weights are all alike.
    model.roi_head.bbox_head.fc_cls.weight.data *= 50
    return model


def predict(model, rcnn: dict) -> dict:
    """What metrics get of an image that the network sees at another size."""
    model.test_cfg.rcnn = model.roi_head.test_cfg = ConfigDict(rcnn)
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.manual_seed(1))
    sample = DetDataSample(
        metainfo={
            "img_id": 3,
            "name": "one",
            "ori_shape": SIZE,
            "img_shape": (96, 128),
            "scale_factor": (2.0, 2.0),
            "batch_input_shape": (96, 128),
        }
    )
    with torch.no_grad():
        (found,) = model.test_step({"inputs": [image], "data_samples": [sample]})
    return found.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nms": {"type": "nms", "iou_threshold": 0.2}, "score_thr": 0.3},
        {"nms": {"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.001}},
        {"max_per_img": 7, "mask_thr_binary": 0.4},
        {"min_area": [40, 0, 100, 60], "class_score_thr": [0.2, 0.6, 0.0, 0.3]},
        {"min_area": [10_000] * 4},
    ],
)
def test_model_with_a_setting_gives_what_tuning_saw(model, change):
    dump = RawDump()
    raw_cfg = raw_test_cfg(ConfigDict(PLAIN), 1000)
    dump.process({}, [predict(model, raw_cfg)])
    raw = RawPredictions(("a", "b", "c", "d"), dump.results, {})
    assert len(raw.images[0].scores) > 100
    setting = copy.deepcopy({**PLAIN, **change})
    truths = {"one": Truth(np.zeros(0, int), [])}
    (expected,) = Tuner(raw, truths).predictions(setting).images
    found = predict(model, setting)["pred_instances"]
    np.testing.assert_array_equal(found["labels"], expected.labels)
    np.testing.assert_array_equal(found["scores"], expected.scores.astype(np.float32))
    np.testing.assert_array_equal(found["bboxes"], expected.boxes.astype(np.float32))
    if len(expected):
        assert found["masks"].to_rle() == expected.rles
