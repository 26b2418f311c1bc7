"""Contours of either kind of masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from custom.engine import CellVisualizer
from custom.structures import LabelMasks, RoIMasks
from custom.structures.contours import draw_contours

PALETTE = [(255, 0, 0), (0, 255, 0)]
META = {"classes": ("class1", "class2"), "palette": PALETTE}


def box_masks(kind: str):
    """Two 6x6 squares, the second of which is cut by the border."""
    if kind == "label":
        plane = np.zeros((1, 20, 30), np.int32)
        plane[0, 4:10, 5:11], plane[0, 16:, 20:26] = 70_000, 3
        return LabelMasks(plane, [0, 0], [70_000, 3])
    boxes = torch.tensor([[5.0, 4.0, 11.0, 10.0], [20.0, 16.0, 26.0, 22.0]])
    return RoIMasks(torch.ones(2, 28, 28), boxes, (20, 30), 0.5)


@pytest.mark.parametrize("kind", ["label", "roi"])
def test_outline_is_the_outermost_pixels_in_the_colour_of_the_class(kind):
    image = np.full((20, 30, 3), 9, np.uint8)
    drawn = draw_contours(image, box_masks(kind), [0, 1], PALETTE)
    expected = image.copy()
    for color, (y1, y2, x1, x2) in zip(
        PALETTE, [(4, 10, 5, 11), (16, 20, 20, 26)], strict=True
    ):
        expected[y1:y2, x1:x2] = color
        expected[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = 9
    np.testing.assert_array_equal(drawn, expected)
    assert (image == 9).all()


def predictions(masks, count: int) -> InstanceData:
    return InstanceData(
        masks=masks,
        bboxes=torch.zeros(count, 4),
        labels=torch.zeros(count, dtype=torch.int64),
        scores=torch.linspace(0.9, 0.1, count),
    )


@pytest.fixture
def draw(tmp_path):
    """The overlay (H, W, 3) RGB of a data sample on a black image."""

    def function(draw_gt: bool = False, **parts) -> np.ndarray:
        visualizer = CellVisualizer()
        visualizer.dataset_meta = META
        visualizer.add_datasample(
            "x",
            np.zeros((20, 30, 3), np.uint8),
            DetDataSample(**parts),
            draw_gt=draw_gt,
            pred_score_thr=0.5,
            out_file=str(tmp_path / "x.png"),
        )
        return cv2.imread(str(tmp_path / "x.png"))[:, :, ::-1]

    return function


def test_ground_truth_and_predictions_lie_side_by_side(draw):
    truth = InstanceData(masks=box_masks("label"), labels=torch.tensor([0, 1]))
    result = predictions(box_masks("roi"), 2)
    drawn = draw(draw_gt=True, gt_instances=truth, pred_instances=result)
    assert drawn.shape == (20, 60, 3)
    assert drawn[16, 20].tolist() == [0, 255, 0]
    assert drawn[4, 35].tolist() == [255, 0, 0]


def test_an_image_without_detections_is_drawn_as_it_is(draw):
    """MMDetection gives an (0, H, W) tensor of masks for it."""
    empty = torch.zeros(0, 20, 30, dtype=torch.bool)
    assert not draw(pred_instances=predictions(empty, 0)).any()
    assert not draw(pred_instances=predictions(box_masks("roi")[:0], 0)).any()
