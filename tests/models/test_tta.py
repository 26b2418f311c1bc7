"""MaskTTAModel: views are undone exactly, boxes are merged, probabilities averaged."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from custom.models import MaskTTAModel
from custom.structures.dihedral import DIHEDRAL
from tests.oracle_detector import (
    OracleDetector,
    OracleHead,
    by_score,
    data_of,
    plain,
)


def views_of(data, names=tuple(DIHEDRAL)):
    """Views as `TestTimeAug` and the collation give them."""
    inputs, samples = [], []
    for name in names:
        turned = [
            torch.from_numpy(DIHEDRAL[name].array(x.numpy(), rows=1).copy())
            for x in data["inputs"]
        ]
        inputs.append(turned)
        samples.append([])
        for image, sample in zip(turned, data["data_samples"], strict=True):
            view = copy.deepcopy(sample)
            view.set_metainfo({"dihedral": name, "img_shape": tuple(image.shape[1:])})
            samples[-1].append(view)
    return {"inputs": inputs, "data_samples": samples}


def cells(seed, size=(70, 120)):
    """Objects of random pixels in boxes of 28x28, where 28x28 masks are exact."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    for identity in range(1, 16):
        y, x = rng.integers(0, size[0] - 28), rng.integers(0, size[1] - 28)
        window = labels[y : y + 28, x : x + 28]
        if not window.any():
            window[...] = identity * (rng.random((28, 28)) < 0.6)
            window[[0, -1]] = window[:, [0, -1]] = identity
    return labels


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.sampled_from(list(DIHEDRAL)), min_size=1, max_size=8),
    factor=st.sampled_from([1, 2]),
)
def test_an_oracle_finds_the_same_with_views_as_without(seed, names, factor):
    labels = cells(seed)
    data = data_of(labels, factor=factor)
    expected = by_score(plain(data)[0])
    model = MaskTTAModel(module=OracleDetector())
    (sample,) = model.test_step(views_of(data, names))
    detections = sample.pred_instances
    assert torch.equal(detections.labels, expected.labels)
    for key in ("bboxes", "scores"):
        torch.testing.assert_close(detections[key], expected[key], rtol=0, atol=1e-4)
    torch.testing.assert_close(
        detections.masks.probs, expected.masks.probs, rtol=0, atol=1e-4
    )
    pixels = expected.masks.to_ndarray()
    np.testing.assert_array_equal(detections.masks.to_ndarray(), pixels)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.sampled_from(list(DIHEDRAL)), min_size=1, max_size=4),
    tile=st.integers(45, 70),
    share=st.floats(0, 1),
    batch=st.integers(1, 3),
)
def test_views_and_tiles_together_are_the_identity_for_an_oracle(
    seed, names, tile, share, batch
):
    # Every object is whole in a tile, away from its border by the two pixels within
    # which it would be a piece: then its 28x28 mask is exact, that of a piece is not.
    overlap = 28 + 2 * 2 + int(share * (tile - 45))
    labels = cells(seed)
    expected = by_score(plain(data_of(labels))[0])
    model = MaskTTAModel(module=OracleDetector(tile, overlap, batch))
    (sample,) = model.test_step(views_of(data_of(labels), names))
    detections = sample.pred_instances
    assert torch.equal(detections.labels, expected.labels)
    torch.testing.assert_close(detections.scores, expected.scores)
    torch.testing.assert_close(detections.bboxes, expected.bboxes)
    pixels = expected.masks.to_ndarray()
    np.testing.assert_array_equal(detections.masks.to_ndarray(), pixels)


class LeftHead(OracleHead):
    """Sees only the left half of each object, and does not find all in each view."""

    def predict_bbox(self, images, metas, proposals, rcnn_test_cfg, rescale=False):
        detections = super().predict_bbox(images, metas, proposals, rcnn_test_cfg)
        name = metas[0].get("dihedral")
        return [f[f.labels != (0 if name == "identity" else 1)] for f in detections]

    def predict_mask(self, images, metas, detections, rescale=False):
        detections = super().predict_mask(images, metas, detections, rescale)
        for pred in detections:
            if len(pred):
                pred.masks.probs[:, :, 14:] = 0
        return detections


def test_probabilities_are_the_mean_of_all_views_in_the_original_frame():
    labels = np.zeros((60, 90), np.int32)
    labels[5:33, 10:38], labels[20:48, 50:78] = 3, 4
    detector = OracleDetector()
    detector.roi_head = LeftHead()
    names = ["identity", "horizontal", "rot90", "rot270"]
    (sample,) = MaskTTAModel(module=detector).test_step(
        views_of(data_of(labels), names)
    )
    detections = sample.pred_instances
    # Each is found by some views only, and its mask is averaged over all.
    assert sorted(detections.labels.tolist()) == [0, 1]
    left = np.zeros((28, 28))
    left[:, :14] = 1
    expected = sum(
        DIHEDRAL[name].undo(torch.from_numpy(left).float()) for name in names
    ) / len(names)
    for probs in detections.masks.probs:
        torch.testing.assert_close(probs, expected)


def test_images_without_objects_give_none():
    empty, full = np.zeros((60, 90), np.int32), cells(0, (60, 90))
    model = MaskTTAModel(module=OracleDetector())
    for labels in ([empty], [empty, full]):
        samples = model.test_step(views_of(data_of(*labels)))
        assert len(samples[0].pred_instances) == 0
        assert samples[0].pred_instances.masks.to_rle() == []
    assert len(samples[1].pred_instances) > 0


def test_detections_are_limited_after_merging():
    detector, labels = OracleDetector(), cells(3)
    (expected,) = plain(data_of(labels))
    detector.roi_head.test_cfg.max_per_img = 3
    (sample,) = MaskTTAModel(module=detector).test_step(views_of(data_of(labels)))
    assert torch.equal(
        sample.pred_instances.scores, expected.scores.sort().values.flip(0)[:3]
    )


def test_classes_are_merged_apart():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    views = [
        InstanceData(bboxes=boxes, scores=torch.tensor([s, s]), labels=torch.arange(2))
        for s in (0.5, 0.7)
    ]
    model = MaskTTAModel(module=OracleDetector())
    data = data_of(np.zeros((20, 20), np.int32))["data_samples"] * 2
    samples = [copy.deepcopy(sample) for sample in data]
    for sample, view in zip(samples, views, strict=True):
        sample.pred_instances = view
    (merged,) = model.merge_preds([samples])
    assert sorted(merged.pred_instances.labels.tolist()) == [0, 1]
    assert merged.pred_instances.scores.tolist() == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize("name", ["maskrcnn_r18-slim", "cascade"])
@torch.no_grad()
def test_one_view_of_a_network_equals_the_network(repo, name):
    init_default_scope("mmdet")
    cfg = Config.fromfile(repo / "configs/demo/maskrcnn_r18-slim.py")
    if name == "cascade":
        cfg.model = as_cascade(cfg.model)
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model).eval()
    data = data_of(np.zeros((64, 96), np.int32))
    data["inputs"] = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)]
    (result,) = MaskTTAModel(module=detector).test_step(views_of(data, ["identity"]))
    (expected,) = detector.test_step(copy.deepcopy(data))
    result, expected = result.pred_instances, expected.pred_instances
    for key in ("bboxes", "scores", "labels"):
        torch.testing.assert_close(result[key], expected[key], msg=key)
    torch.testing.assert_close(result.masks.probs, expected.masks.probs)


def as_cascade(model: ConfigDict) -> ConfigDict:
    """The demo model with the stock cascade head, its channels made slim."""
    base = Config.fromfile(
        "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py".replace(
            "mmdet::", str(_mmdet_configs()) + "/"
        )
    ).model
    head = base.roi_head
    for stage in head.bbox_head:
        stage.update(in_channels=64, fc_out_channels=64, num_classes=4)
    head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = 64
    head.mask_head.update(
        type="RoIFCNMaskHead", in_channels=64, conv_out_channels=64, num_classes=4
    )
    return ConfigDict(
        {**model, "type": "CascadeRCNN", "roi_head": head, "train_cfg": base.train_cfg}
    )


def _mmdet_configs():
    from pathlib import Path

    import mmdet

    return Path(mmdet.__file__).parent / ".mim/configs"
