"""The eight elements on images, boxes and maps agree with NumPy and with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.structures import LabelMasks
from custom.structures.dihedral import DIHEDRAL

elements = pytest.mark.parametrize("name", list(DIHEDRAL))
IMAGE = np.random.default_rng(0).integers(0, 99, (5, 8, 3))
NUMPY = {
    "identity": lambda a: a,
    "horizontal": np.fliplr,
    "vertical": np.flipud,
    "diagonal": lambda a: np.rot90(a, 2),
    "transpose": lambda a: np.swapaxes(a, 0, 1),
    "rot90": np.rot90,
    "rot270": lambda a: np.rot90(a, 3),
    "antitranspose": lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
}


@elements
def test_image_is_what_numpy_makes_of_it(name):
    turned = DIHEDRAL[name].array(IMAGE)
    np.testing.assert_array_equal(turned, NUMPY[name](IMAGE))
    assert turned.shape[:2] == DIHEDRAL[name].size(5, 8)
    planes = IMAGE.transpose(2, 0, 1)
    np.testing.assert_array_equal(
        DIHEDRAL[name].array(planes, rows=1), turned.transpose(2, 0, 1)
    )


@elements
def test_maps_are_turned_back(name):
    turned = torch.from_numpy(DIHEDRAL[name].array(IMAGE[..., 0]).copy())
    np.testing.assert_array_equal(DIHEDRAL[name].undo(turned[None])[0], IMAGE[..., 0])


@elements
def test_boxes_follow_their_pixels_and_come_back(name):
    element = DIHEDRAL[name]
    boxes = torch.tensor([[1.0, 2, 4, 3], [0, 0, 8, 5], [6, 0, 7, 4]])
    turned = element.boxes(boxes, (5, 8))
    for box, after in zip(boxes.int(), turned.int(), strict=True):
        image = np.zeros((5, 8), int)
        image[box[1] : box[3], box[0] : box[2]] = 1
        expected = np.zeros(element.size(5, 8), int)
        expected[after[1] : after[3], after[0] : after[2]] = 1
        np.testing.assert_array_equal(element.array(image), expected)
    assert torch.equal(element.undo_boxes(turned, (5, 8)), boxes)


@elements
def test_label_masks_turn_as_their_bitmaps(name):
    labels = np.random.default_rng(1).integers(0, 5, (6, 9))
    masks, _ = LabelMasks.from_label_images([labels, labels[::-1]])
    turned = masks.turn(DIHEDRAL[name])
    expected = DIHEDRAL[name].array(masks.to_ndarray(), rows=1)
    np.testing.assert_array_equal(turned.to_ndarray(), expected)
    boxes = DIHEDRAL[name].boxes(torch.from_numpy(masks.boxes()), (6, 9))
    np.testing.assert_array_equal(turned.boxes(), boxes)
