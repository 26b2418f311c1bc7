"""TiledDetector gives what the plain detector gives, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.errors import InputError
from custom.structures import BoxMasks, RoIMasks
from tests.oracle_detector import OracleDetector, by_score, data_of, plain

DEMO = "configs/demo/maskrcnn_r18-slim.py"


def rectangles(seed, size, count):
    """Disjoint rectangles: their 28x28 masks are exact at any size."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    for identity in range(1, count + 1):
        y, x = (int(rng.integers(0, side)) for side in size)
        h, w = rng.integers(1, 30, 2)
        if not labels[y : y + h, x : x + w].any():
            labels[y : y + h, x : x + w] = identity
    return labels


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(1, 150)] * 2),
    tile=st.integers(20, 60),
    share=st.floats(0, 1),
    batch=st.integers(1, 5),
    factor=st.sampled_from([1, 2, 3]),
)
def test_an_oracle_finds_the_same_in_tiles_as_in_the_whole(
    seed, size, tile, share, batch, factor
):
    labels = rectangles(seed, size, 25)
    overlap = 1 + int(share * 0.7 * tile)
    detector = OracleDetector(tile, overlap, batch)
    (sample,) = detector.test_step(data_of(labels, factor=factor))
    detections = by_score(sample.pred_instances)
    expected = by_score(plain(data_of(labels, factor=factor))[0])
    assert torch.equal(detections.scores, expected.scores)
    assert torch.equal(detections.labels, expected.labels)
    torch.testing.assert_close(detections.bboxes, expected.bboxes, atol=1e-4, rtol=0)
    if len(detections):
        pixels = expected.masks.to_ndarray()
        np.testing.assert_array_equal(detections.masks.to_ndarray(), pixels)
        assert detections.masks.size == size


def test_several_images_of_different_size_each_get_their_own_tiles():
    images = [rectangles(i, size, 12) for i, size in enumerate([(90, 50), (33, 86)])]
    detector = OracleDetector(60, 30, 2)
    samples = detector.test_step(data_of(*images))
    for sample, expected in zip(samples, plain(data_of(*images)), strict=True):
        assert len(sample.pred_instances) == len(expected) > 0


@pytest.fixture(scope="module")
def demo(repo) -> Config:
    init_default_scope("mmdet")
    cfg = Config.fromfile(repo / DEMO)
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.model.test_cfg.rcnn.max_per_img = 30
    cfg.model.test_cfg.rpn.max_per_img = 60
    return cfg


def build(cfg, **tiles):
    torch.manual_seed(0)
    model = dict(cfg.model)
    if tiles:
        model.update(type="TiledDetector", **tiles)
    return MODELS.build(model).eval()


def image_data(size):
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    data = data_of(np.zeros(size, np.int32))
    return {**data, "inputs": [pixels]}


def test_checkpoints_of_the_plain_model_fit_and_the_other_way_round(demo):
    plain_model = build(demo)
    tiled = build(demo, tile_size=64, overlap=16)
    assert tiled.load_state_dict(plain_model.state_dict()).missing_keys == []
    assert list(tiled.state_dict()) == list(plain_model.state_dict())


@torch.no_grad()
def test_an_image_in_one_tile_is_predicted_as_ever(demo):
    tiled, data = build(demo, tile_size=96, overlap=16), image_data((33, 86))
    (result,), (expected,) = (m.test_step(data) for m in (tiled, build(demo)))
    assert isinstance(result.pred_instances.masks, RoIMasks)
    assert torch.equal(result.pred_instances.bboxes, expected.pred_instances.bboxes)
    assert torch.equal(
        result.pred_instances.masks.probs, expected.pred_instances.masks.probs
    )


@torch.no_grad()
def test_a_network_predicts_in_tiles_in_validation_and_test(demo):
    tiled = build(demo, tile_size=64, overlap=16, tile_batch=3)
    data = image_data((100, 150))
    (result,), (again,) = (step(data) for step in (tiled.test_step, tiled.val_step))
    result = result.pred_instances
    assert len(result) > 30  # more than a tile may have
    assert isinstance(result.masks, BoxMasks) and result.masks.size == (100, 150)
    assert torch.equal(result.bboxes, again.pred_instances.bboxes)
    assert (result.bboxes[:, 2:] <= torch.tensor([150, 100])).all()


def test_wrong_overlap_is_refused_when_the_model_is_built(demo):
    with pytest.raises(InputError, match="not smaller than the tile"):
        build(demo, tile_size=64, overlap=64)
