import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from custom.evaluation.iou_table import iou_table, paint
from tests.cell_scenes import bitmaps, random_result, to_rle
from tests.dense_masks import label_masks, random_masks, seeds


def naive(gt: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """(G, P) shared pixels, pair by pair."""
    table = np.zeros((len(gt), len(pred)), int)
    for i, a in enumerate(gt):
        for j, b in enumerate(pred):
            table[i, j] = (a & b).sum()
    return table


def dense(table) -> np.ndarray:
    full = np.zeros((len(table.gt_areas), len(table.pred_areas)), int)
    full[table.gt, table.pred] = table.pixels
    assert np.count_nonzero(full) == len(table.pixels)  # no pair twice, none empty
    return full


@given(label_masks(), seeds, st.booleans())
@settings(deadline=None, max_examples=80)
def test_table_equals_all_pairs_of_bitmaps(masks, seed, as_rle):
    """Overlapping instances on both sides, label images or RLE, empty sides."""
    rng = np.random.default_rng(seed)
    size = masks.height, masks.width
    other = random_masks(rng, size, int(rng.integers(0, 9)), planes=2)
    table = iou_table(masks, other.to_rle() if as_rle else other)
    gt, pred = masks.to_ndarray() > 0, other.to_ndarray() > 0
    expected = naive(gt, pred)
    np.testing.assert_array_equal(dense(table), expected)
    np.testing.assert_array_equal(table.gt_areas, gt.sum(axis=(1, 2)))
    np.testing.assert_array_equal(table.pred_areas, pred.sum(axis=(1, 2)))
    for i, j, iou, of_gt, of_pred in zip(
        table.gt, table.pred, table.iou, table.gt_share, table.pred_share, strict=True
    ):
        assert iou == expected[i, j] / (gt[i] | pred[j]).sum()
        assert of_gt == expected[i, j] / gt[i].sum()
        assert of_pred == expected[i, j] / pred[j].sum()


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_painting_gives_pixels_to_the_higher_score(seed):
    result = random_result(np.random.default_rng(seed))
    _, masks = bitmaps(result)
    canvas = np.zeros(result.size, int)
    for i in sorted(range(len(masks)), key=lambda i: -result.scores[i]):
        free = masks[i] & (canvas == 0)
        if 2 * free.sum() >= masks[i].sum():
            canvas[free] = i + 1
    painted = paint(result.rles, result.scores, result.size)
    np.testing.assert_array_equal(painted.planes[0], canvas)
    np.testing.assert_array_equal(painted.ids, np.unique(canvas[canvas > 0]))


def test_of_equal_scores_the_first_is_on_top_and_the_covered_one_is_left_out():
    low, high = np.zeros((4, 9), bool), np.zeros((4, 9), bool)
    low[:, :6], high[:, 3:] = True, True
    painted = paint([to_rle(low), to_rle(high)], np.array([0.5, 0.5]), (4, 9))
    assert painted.planes[0][0].tolist() == [1] * 6 + [2] * 3
    inner = np.zeros((4, 9), bool)
    inner[:, 2:5] = True
    painted = paint([to_rle(inner), to_rle(low)], np.array([0.5, 0.9]), (4, 9))
    assert painted.ids.tolist() == [2]
