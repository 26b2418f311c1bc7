import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from custom.transforms import RandomSaturation

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def detectron2(rgb: np.ndarray, weight: float) -> np.ndarray:
    """RandomSaturation and BlendTransform of detectron2 0.6."""
    gray = rgb.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]
    return np.clip((1 - weight) * gray + weight * rgb, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.0, 10.0])
def test_equals_detectron2_on_rgb(weight):
    results = RandomSaturation((weight, weight))({"img": IMAGE.copy()})
    wanted = detectron2(IMAGE[..., ::-1].astype(np.float32), weight)[..., ::-1]
    # Sums in another order may fall on the other side of an integer.
    assert np.abs(results["img"].astype(int) - wanted).max() <= 1
    assert (results["img"] != wanted).mean() < 0.01


def test_near_the_stock_transform_in_its_range():
    stock = TRANSFORMS.build({"type": "Color", "min_mag": 1.5, "max_mag": 1.5})
    wanted = stock({"img": IMAGE.copy()})["img"].astype(int)
    found = RandomSaturation((1.5, 1.5))({"img": IMAGE.copy()})["img"]
    assert np.abs(found - wanted).max() <= 1


def test_draws_anew_each_time_and_keeps_its_input():
    transform, before = RandomSaturation((0.5, 2.0)), IMAGE.copy()
    np.random.seed(0)
    first, second = (transform({"img": IMAGE})["img"] for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(IMAGE, before)
