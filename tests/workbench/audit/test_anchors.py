"""The fit of anchors is what MMDetection's generator and IoU give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import AnchorGenerator
from mmdet.structures.bbox import bbox_overlaps

from custom.workbench.audit.anchors import STRIDES, anchor_fit, best_ious, suggest


def random_boxes(rng, count, height, width) -> np.ndarray:
    sides = np.exp(rng.uniform(0.5, 5, (count, 2)))
    # Half of them at the lower right, where the grid ends.
    place = rng.uniform(0, 1, (count, 2))
    place[::2] = 1
    low = place * np.maximum([width, height] - sides, 0)
    high = np.minimum(low + sides, [width, height])
    boxes = np.concatenate([low, np.maximum(high, low + 1)], 1)
    return np.rint(boxes).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(20, 300),
    st.integers(20, 300),
    st.sampled_from([(4.0,), (2.5,), (4.0, 6.0), (0.5,)]),
    st.sampled_from([(0.5, 1.0, 2.0), (1.0,)]),
)
def test_best_iou_equals_that_over_all_of_the_generators_anchors(
    seed, height, width, scales, ratios
):
    boxes = random_boxes(np.random.default_rng(seed), 20, height, width)
    generator = AnchorGenerator(STRIDES, ratios, list(scales))
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    anchors = torch.cat(generator.grid_priors(shapes, device="cpu"))
    expected = bbox_overlaps(torch.from_numpy(boxes), anchors).max(1).values
    found = best_ious(boxes, np.tile([height, width], (20, 1)), scales, ratios)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_the_best_scale_fits_each_class_as_much():
    """Cells of 20 pixels: anchors of 5 strides of 4 meet them exactly."""
    corners = np.array([(38, 38), (50, 78), (102, 10)], np.float32)
    cells = np.hstack([corners, corners + 20]), np.full((3, 2), 256), np.zeros(3, int)
    one, two = suggest(*cells, 2)
    assert one.scales == (5.0,) and one.mean == two.mean == pytest.approx(1)
    assert (one.sure, one.lost) == (1, 0) and np.isnan(one.by_class[1])
    assert anchor_fit(*cells, 2, [1]).mean < 0.8
    small, large = (100, 100, 116, 116), (100, 100, 160, 160)
    boxes, labels = np.array([small] * 99 + [large]), np.array([0] * 99 + [1])
    fit = anchor_fit(boxes, np.full((100, 2), 300), labels, 2, [4])
    # The large cell lies within an anchor of 64 pixels.
    assert fit.by_class == pytest.approx((1, 60**2 / 64**2))
    assert fit.mean == pytest.approx(np.mean(fit.by_class))
