"""RoIMasks against MMDetection's paste and encode, byte by byte."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures.mask import encode_mask_results
from mmengine.structures import InstanceData

from custom.structures import BoxMasks, RoIMasks, box_masks
from custom.structures.rle import as_rles
from tests.dense_masks import seeds

many = settings(max_examples=100, deadline=None)
sizes = st.tuples(*[st.integers(1, 60)] * 2)
thresholds = st.sampled_from([0.5, 0.5, 0.05, 0.9, 1.0, 1e-6])


def random_probs(rng: np.random.Generator, count: int, side: int) -> torch.Tensor:
    """(N, side, side): noise, certainty, blobs, and exactly one half."""
    probs = rng.random((count, side, side), np.float32)
    kind = rng.integers(4, size=count)
    probs[kind == 1] = np.round(probs[kind == 1])
    probs[kind == 2] = 0.5
    return torch.from_numpy(probs)


def random_boxes(
    rng: np.random.Generator, count: int, size: tuple[int, int]
) -> torch.Tensor:
    """(N, 4): inside, over the border, huge, thinner than a pixel."""
    height, width = size
    centre = rng.uniform(-0.2, 1.2, (count, 2)) * [width, height]
    scale = rng.choice([0.01, 0.3, 5.0, 40.0, 1000.0], (count, 1))
    extent = rng.uniform(0.01, 1, (count, 2)) * scale
    boxes = np.concatenate([centre - extent, centre + extent], axis=1)
    whole = rng.random(count) < 0.3
    boxes[whole] = np.round(boxes[whole])
    boxes = boxes.astype(np.float32)
    # Boxes without extent have a test of their own.
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + np.float32(0.01))
    return torch.from_numpy(boxes)


def stock_masks(masks: RoIMasks) -> torch.Tensor:
    """(N, H, W) bool of ``FCNMaskHead._predict_by_feat_single`` on a CPU."""
    full = torch.zeros((len(masks), *masks.size), dtype=torch.bool)
    for i in range(len(masks)):
        pasted, where = _do_paste_mask(
            masks.probs[i : i + 1, None], masks.boxes[i : i + 1], *masks.size
        )
        full[(i, *where)] = pasted[0] >= masks.threshold
    return full


def stock_on_gpu(masks: RoIMasks) -> torch.Tensor:
    """The same as the stock head does it on a GPU: every pixel of the image."""
    pasted, _ = _do_paste_mask(
        masks.probs[:, None], masks.boxes, *masks.size, skip_empty=False
    )
    return pasted >= masks.threshold


def assert_same(masks: RoIMasks, full: torch.Tensor) -> None:
    full = full.numpy()
    assert masks.to_rle() == encode_mask_results(full)
    np.testing.assert_array_equal(masks.areas, full.sum((1, 2)))
    np.testing.assert_array_equal(masks.to_ndarray(), full)


@many
@given(seed=seeds, size=sizes, count=st.integers(0, 12), threshold=thresholds)
@example(seed=0, size=(1, 1), count=3, threshold=0.5)
def test_rles_equal_stock_paste_and_encode(seed, size, count, threshold):
    rng = np.random.default_rng(seed)
    side = int(rng.choice([1, 14, 28, 28]))
    boxes = random_boxes(rng, count, size)
    # Stock does not take boxes that lie wholly outside, see below.
    near = (boxes[:, :2] < torch.tensor(size[::-1])).all(1) & (boxes[:, 2:] > 0).all(1)
    masks = RoIMasks(random_probs(rng, count, side), boxes, size, threshold)[near]
    assert_same(masks, stock_masks(masks))


@many
@given(
    seed=seeds,
    size=sizes,
    count=st.integers(1, 12),
    threshold=st.sampled_from([0.5, 0.9]),
)
def test_boxes_anywhere_equal_stock_in_the_full_frame(seed, size, count, threshold):
    """Wholly outside and a thousand times the image: what stock gives on a GPU.

    From a threshold of one half on: below it, stock on a GPU counts pixels that are
    up to 1/56 of a box's side outside the box, and on a CPU those within one pixel.
    """
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count, size)
    masks = RoIMasks(random_probs(rng, count, 28), boxes, size, threshold)
    assert_same(masks, stock_on_gpu(masks))


@many
@given(
    seed=seeds,
    x=st.integers(0, 40).map(lambda v: v / 2),
    y=st.integers(0, 40).map(lambda v: v / 2),
    extent=st.sampled_from([(0, 0), (0, 5), (5, 0), (0, 0.25), (1e-6, 3)]),
)
def test_boxes_without_extent_equal_stock(seed, x, y, extent):
    """Stock divides by zero and samples the middle where that gives infinity.

    On a CPU it looks at the pixels around the box only, and so do we; on a GPU it
    fills whole rows and columns of the image.
    """
    box = torch.tensor([[x, y, x + extent[0], y + extent[1]]], dtype=torch.float32)
    probs = random_probs(np.random.default_rng(seed), 1, 28)
    masks = RoIMasks(probs, box, (22, 23), 0.5)
    assert_same(masks, stock_masks(masks))


def test_chunks_do_not_change_the_result(monkeypatch):
    """More than one chunk, by count and by pixels, and masks that differ in size."""
    rng = np.random.default_rng(5)
    masks = RoIMasks(
        random_probs(rng, 150, 28), random_boxes(rng, 150, (70, 50)), (70, 50), 0.5
    )
    expected = encode_mask_results(stock_on_gpu(masks).numpy())
    for pixels in (1, 1000, 1 << 30):
        monkeypatch.setattr(box_masks, "PIXELS_AT_ONCE", pixels)
        assert masks.to_rle() == expected


@pytest.mark.parametrize("kind", [RoIMasks, BoxMasks])
def test_masks_are_pasted_and_encoded_once_for_all_metrics(masks, monkeypatch, kind):
    if kind is BoxMasks:
        masks = BoxMasks.from_patches(masks.patches(), masks.size)
    stacks, calls = kind.stacks, []
    monkeypatch.setattr(kind, "stacks", lambda m: calls.append(m) or stacks(m))
    first, second = masks.to_rle(), as_rles(masks)
    assert calls == [masks]
    first[0]["counts"] = b""  # a metric's own list
    assert as_rles(masks) == second != first


def test_nothing_is_allocated_that_grows_with_the_image():
    import tracemalloc

    size = (20_000, 20_000)
    boxes = torch.tensor([[19_000.0, 19_000.0, 19_020.0, 19_030.0]]).repeat(50, 1)
    masks = RoIMasks(torch.ones(50, 28, 28), boxes, size, 0.5)
    tracemalloc.start()
    rles = masks.to_rle()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # one full bitmap is 400 MB
    assert masks.areas.tolist() == [600] * 50
    assert all(rle["size"] == [20_000, 20_000] for rle in rles)


# Selecting and moving.


@pytest.fixture
def masks() -> RoIMasks:
    rng = np.random.default_rng(7)
    boxes = random_boxes(rng, 9, (30, 40))
    return RoIMasks(random_probs(rng, 9, 28), boxes, (30, 40), 0.4)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (3, [3]),
        (-1, [8]),
        (np.int64(3), [3]),
        (torch.tensor(3), [3]),
        (slice(2, 7, 2), [2, 4, 6]),
        (slice(0, 0), []),
        ([4, 1], [4, 1]),
        ([], []),
        (np.array([4, 1, 4]), [4, 1, 4]),
        (torch.tensor([8, 0]), [8, 0]),
        (np.arange(9) > 6, [7, 8]),
        (torch.arange(9) < 2, [0, 1]),
        (torch.zeros(9, dtype=torch.bool), []),
    ],
)
def test_index_selects_instances(masks, index, expected):
    rles = masks.to_rle()
    chosen = masks[index]
    assert chosen.to_rle() == [rles[i] for i in expected]
    assert (chosen.size, chosen.threshold) == (masks.size, masks.threshold)


def test_cat_puts_one_after_the_other(masks):
    joined = RoIMasks.cat([masks[:2], masks[:0], masks[5:]])
    assert joined.to_rle() == masks[[0, 1, 5, 6, 7, 8]].to_rle()
    both = InstanceData.cat([InstanceData(masks=m) for m in (masks[:4], masks[4:])])
    assert both.masks.to_rle() == masks.to_rle()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: m.to("cpu")])
def test_copies_are_equal(masks, copied):
    assert as_rles(copied(masks)) == as_rles(masks)
    assert pickle.loads(pickle.dumps(masks)).to_rle() == masks.to_rle()


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_thresholds_that_make_no_mask_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        RoIMasks(torch.ones(1, 28, 28), torch.ones(1, 4), (9, 9), threshold)


@pytest.mark.gpu
def test_masks_on_the_gpu_give_the_same_rles(masks):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    moved = InstanceData(masks=masks).to("cuda").masks
    assert moved.probs.is_cuda
    assert moved.to_rle() == masks.to_rle()
    keep = torch.arange(9, device="cuda") > 4
    assert moved[keep].to_rle() == masks[5:].to_rle()
