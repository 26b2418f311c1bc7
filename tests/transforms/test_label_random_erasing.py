"""LabelRandomErasing against the stock RandomErasing, with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import RandomErasing
from mmdet.registry import TRANSFORMS

from custom.transforms import LabelRandomErasing
from tests.dense_masks import assert_same_results, label_masks, make_results, seeds


@settings(max_examples=150, deadline=None)
@given(
    masks=label_masks(),
    seed=seeds,
    n_patches=st.sampled_from([1, (1, 5)]),
    ratio=st.sampled_from([0.2, (0.0, 0.7)]),
    squared=st.booleans(),
)
def test_result_equals_stock(masks, seed, n_patches, ratio, squared):
    results = []
    planes = masks.planes.copy()
    for kind, stock in ((LabelRandomErasing, False), (RandomErasing, True)):
        np.random.seed(seed)
        transform = kind(n_patches, ratio, squared=squared)
        results.append(transform.transform(make_results(masks, stock, seed)))
    assert_same_results(*results)
    np.testing.assert_array_equal(masks.planes, planes)


def test_erasing_with_foreground_is_refused():
    with pytest.raises(ValueError, match="mask_border_value"):
        TRANSFORMS.build(
            {
                "type": "LabelRandomErasing",
                "n_patches": 1,
                "ratio": 0.2,
                "mask_border_value": 1,
            }
        )
