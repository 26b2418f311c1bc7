"""RandomDihedral turns image, boxes and masks together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomFlip
from mmdet.structures.bbox import HorizontalBoxes

from custom.structures import LabelMasks
from custom.structures.dihedral import DIHEDRAL
from custom.transforms import RandomDihedral


def sample(seed=0, size=(7, 11)):
    rng = np.random.default_rng(seed)
    masks, (ids,) = LabelMasks.from_label_images([rng.integers(0, 4, size)])
    return {
        "img": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        "img_shape": size,
        "gt_bboxes": HorizontalBoxes(masks.boxes()),
        "gt_bboxes_labels": np.arange(len(ids)),
        "gt_masks": masks,
    }


@pytest.mark.parametrize("name", ["horizontal", "vertical", "diagonal"])
def test_flips_equal_the_stock_transform(name):
    ours = RandomDihedral([name])(sample())
    stock = RandomFlip(prob=1.0, direction=name)(sample())
    np.testing.assert_array_equal(ours["img"], stock["img"])
    np.testing.assert_array_equal(ours["gt_bboxes"].tensor, stock["gt_bboxes"].tensor)
    np.testing.assert_array_equal(
        ours["gt_masks"].to_ndarray(), stock["gt_masks"].to_ndarray()
    )


@pytest.mark.parametrize("name", list(DIHEDRAL))
def test_boxes_stay_around_their_masks(name):
    result = RandomDihedral([name])(sample())
    assert result["dihedral"] == name
    assert (
        result["img_shape"]
        == result["img"].shape[:2]
        == result["gt_masks"].planes.shape[1:]
    )
    np.testing.assert_array_equal(
        result["gt_bboxes"].tensor, result["gt_masks"].boxes()
    )


def test_all_elements_are_equally_likely():
    np.random.seed(0)
    turn = RandomDihedral()
    counts = Counter(turn({"img": np.zeros((2, 3, 3))})["dihedral"] for _ in range(800))
    assert set(counts) == set(DIHEDRAL) and min(counts.values()) > 60


@pytest.mark.parametrize("elements", [[], ["rot45"], ["rot90", "flip"]])
def test_unknown_elements_are_refused(elements):
    with pytest.raises(ValueError, match="elements must be some of identity"):
        RandomDihedral(elements)
