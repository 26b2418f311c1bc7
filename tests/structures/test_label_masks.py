"""LabelMasks against BitmapMasks, operation by operation."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import mmcv
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmcv.ops import roi_align
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from custom.structures import LabelMasks, box_masks
from custom.structures.rle import encode_runs, patch_runs, run_pixels
from tests.dense_masks import (
    IDS,
    assert_same,
    label_masks,
    random_masks,
    seeds,
    to_bitmaps,
)

many = settings(max_examples=100, deadline=None)


@pytest.fixture
def masks() -> LabelMasks:
    return random_masks(np.random.default_rng(3), (20, 30), 9, planes=2)


# Making them.


@many
@given(
    seed=seeds,
    size=st.tuples(*[st.integers(1, 24)] * 2),
    images=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32, np.int64]),
)
def test_from_label_images_loses_no_instance_of_any_image(seed, size, images, dtype):
    rng = np.random.default_rng(seed)
    pool = np.array([i for i in IDS if i <= np.iinfo(dtype).max])
    originals = []
    for _ in range(images):
        ids = rng.permutation(pool)[: rng.integers(0, len(pool) + 1)]
        source = np.zeros(size, dtype)
        for label in ids:
            y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
            source[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = label
        originals.append(source)
    masks, result = LabelMasks.from_label_images(originals)
    expected = [
        source == label for source in originals for label in np.unique(source) if label
    ]
    assert [list(ids) for ids in result] == [
        [i for i in np.unique(source) if i] for source in originals
    ]
    stock = BitmapMasks(np.array(expected, np.uint8), *size)
    assert_same(masks, stock)
    np.testing.assert_array_equal(masks.boxes(), stock.get_bboxes("hbox").tensor)


@many
@given(
    seed=seeds,
    size=st.tuples(*[st.integers(1, 20)] * 2),
    count=st.integers(0, 8),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)
def test_overlapping_bitmaps_survive_a_round_trip(seed, size, count, density):
    bitmaps = np.random.default_rng(seed).random((count, *size)) < density
    stock = BitmapMasks(bitmaps.astype(np.uint8), *size)
    assert_same(LabelMasks.from_rles(to_rle(stock), size), stock)


def test_rles_are_drawn_by_their_runs():
    """No frame per mask: 2,000 cells of a large image in a few times its memory."""
    corners = np.stack(np.meshgrid(np.arange(45), np.arange(45)), -1).reshape(-1, 2)
    pixels = np.ones((1, 8, 8), bool)
    runs = patch_runs(pixels.repeat(len(corners), 0), corners * 40, 1800)
    rles = encode_runs(*runs, len(corners), (1800, 1800))
    tracemalloc.start()
    masks = LabelMasks.from_rles(rles, (1800, 1800))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(masks.planes) == 1 and masks.to_rle() == rles
    assert peak < 4 * masks.planes.nbytes


# Selecting.


def indices(count: int) -> st.SearchStrategy:
    """Everything that selects from ``count`` instances."""
    integers = st.lists(st.integers(-count, count - 1), max_size=6) if count else None
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    arrays = st.one_of(
        *([integers.map(lambda v: np.array(v, np.int64))] if count else []),
        flags.map(lambda v: np.array(v, bool)),
    )
    return st.one_of(
        *([st.integers(-count, count - 1)] if count else []),
        st.slices(count),
        arrays,
        arrays.map(torch.from_numpy),
        arrays.map(lambda v: v.tolist()),
    )


@many
@given(st.data(), label_masks(max_side=6))
def test_index_selects_as_bitmaps_do_and_shares_the_pixels(data, masks):
    index = data.draw(indices(len(masks)))
    chosen = masks[index]
    if isinstance(index, torch.Tensor):
        index = index.numpy()
    elif isinstance(index, list):
        index = np.array(index, bool if not len(masks) else None)
        index = index if index.size else np.zeros(0, np.int64)
    stock = to_bitmaps(masks)[index]
    assert_same(chosen, stock)
    assert chosen.planes is masks.planes
    # An instance that is selected twice is there twice.
    assert chosen.to_rle() == to_rle(stock)
    np.testing.assert_array_equal(chosen.areas, stock.areas)
    np.testing.assert_array_equal(chosen.boxes(), stock.get_bboxes("hbox").tensor)


@many
@given(label_masks(max_side=8), label_masks(max_side=8))
def test_cat_keeps_order_and_pixels(first, second):
    second = second.crop(np.array([0, 0, first.width, first.height])).pad(
        (max(first.height, second.height), max(first.width, second.width))
    )
    first = first.pad((second.height, second.width))
    stock = BitmapMasks.cat([to_bitmaps(m) for m in (first, second, first[:2])])
    joined = LabelMasks.cat([first, second, first[:2]])
    assert_same(joined, stock)
    assert len(joined.planes) == len(first.planes) + len(second.planes)


@many
@given(st.data(), label_masks(max_side=12))
def test_renumbering_keeps_pixels_and_order(data, masks):
    masks = masks[data.draw(indices(len(masks)))]  # also the same one twice
    other = masks.renumber()
    np.testing.assert_array_equal(other.to_ndarray(), masks.to_ndarray())
    assert other.planes.max(initial=0) <= other.ids.max(initial=0) <= len(masks)
    for index, plane in enumerate(other.planes):
        assert np.isin(plane, [0, *other.ids[other.plane_of == index]]).all()


# Geometry, where equality is exact.


@many
@given(
    masks=label_masks(),
    steps=st.lists(
        st.sampled_from(["flip", "crop", "pad", "expand", "resize", "__getitem__"]),
        max_size=6,
    ),
    seed=seeds,
)
def test_any_chain_equals_bitmaps(masks, steps, seed):
    """Views, negative strides, gaps and known boxes are the input of the next."""
    rng = np.random.default_rng(seed)
    masks = LabelMasks(masks.planes, masks.plane_of, masks.ids, masks.boxes())
    stock = to_bitmaps(masks)
    for name in steps:
        shape = np.array([masks.height, masks.width])
        if name == "flip":
            args = (str(rng.choice(["horizontal", "vertical", "diagonal"])),)
        elif name == "crop":
            # Also beyond the image, and boxes without extent, of which a pixel is left.
            y, x = rng.integers(-9, shape)
            args = (np.array([x, y, x + rng.integers(-2, 30), y + 9]),)
        elif name == "pad":
            args = (tuple(shape + rng.integers(0, 4, 2)),)
        elif name == "expand":
            top, left, bottom, right = rng.integers(0, 4, 4).tolist()
            height, width = shape.tolist()
            args = (height + top + bottom, width + left + right, top, left)
        elif name == "resize":
            args = (tuple(rng.integers(1, 30, 2).tolist()),)
        else:
            args = (rng.random(len(masks)) < 0.8,)
        masks, stock = getattr(masks, name)(*args), getattr(stock, name)(*args)
    assert_same(masks, stock)
    assert masks.to_rle() == to_rle(stock)
    np.testing.assert_array_equal(masks.boxes(), stock.get_bboxes("hbox").tensor)


def test_a_crop_beyond_the_border_keeps_the_last_pixel(masks):
    """BitmapMasks fails there."""
    last = masks.crop(np.array([30, 20, 35, 25]))
    assert last.planes.shape == (2, 1, 1)
    assert last.planes[0, 0, 0] == masks.planes[0, -1, -1]


@many
@given(
    label_masks(),
    st.one_of(
        st.floats(0.1, 3),
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(st.integers(1, 60), st.just(float("inf"))),
    ),
)
@example(LabelMasks(np.ones((1, 3, 5), np.int32), [0], [1]), 0.5)
def test_rescale_equals_bitmaps(masks, scale):
    new = mmcv.rescale_size((masks.width, masks.height), scale)
    if min(new) == 0:  # cv2 has no empty images
        return
    assert_same(masks.rescale(scale), to_bitmaps(masks).rescale(scale))


@many
@given(
    masks=label_masks(min_count=1),
    offset=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    direction=st.sampled_from(["horizontal", "vertical", "both"]),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_translate_by_whole_pixels_equals_bitmaps(masks, offset, direction, more):
    shape = masks.height + more[0], masks.width + more[1]
    bitmaps = to_bitmaps(masks)
    if direction == "both":  # which mmdet 3.3.0 does not know
        shifted = masks.translate(shape, offset, direction)
        bitmaps = bitmaps.translate(shape, offset[0], "horizontal")
        assert_same(shifted, bitmaps.translate(shape, offset[1], "vertical"))
    else:
        args = shape, offset[0], direction
        assert_same(masks.translate(*args), bitmaps.translate(*args))


def test_what_would_mix_ids_is_refused(masks):
    for refused in (
        lambda: masks.pad((40, 40), pad_val=255),
        lambda: masks.rotate((20, 30), 10, border_value=1),
        lambda: masks.resize((10, 10), interpolation="bilinear"),
    ):
        with pytest.raises(ValueError, match=r"background|nearest"):
            refused()


# Geometry, where a boundary may move by less than a pixel.


def warps(height: int, width: int) -> st.SearchStrategy:
    """(name, arguments, the same warp of a float image, interpolated)."""
    shape = height, width
    rotate = st.tuples(st.floats(-360, 360), st.floats(0.3, 3)).map(
        lambda v: (
            "rotate",
            (shape, v[0], None, v[1]),
            lambda m: mmcv.imrotate(m, v[0], scale=v[1]),
        )
    )
    directions = st.sampled_from(["horizontal", "vertical"])
    shear = st.tuples(st.floats(-2, 2), directions).map(
        lambda v: ("shear", (shape, *v), lambda m: mmcv.imshear(m, *v))
    )
    translate = st.tuples(st.floats(-20, 20), directions).map(
        lambda v: ("translate", (shape, *v), lambda m: mmcv.imtranslate(m, *v))
    )
    return st.one_of(rotate, shear, translate)


@many
@given(st.data(), label_masks(max_side=40, min_count=1))
def test_warps_differ_only_where_a_pixel_is_partly_covered(data, masks):
    """Stock interpolates between the four nearest pixels, ours takes the nearest.

    Both give 1 where all four are in the mask and 0 where none is, so they can only
    differ where the boundary passes within one pixel of the sample point.
    """
    name, args, interpolated = data.draw(warps(masks.height, masks.width))
    stock = to_bitmaps(masks)
    ours = getattr(masks, name)(*args).to_ndarray()
    theirs = getattr(stock, name)(*args).masks
    covered = np.stack([interpolated(m.astype(np.float32)) for m in stock.masks])
    partly = (covered > 0) & (covered < 1)
    assert np.all(partly[ours != theirs])


def test_rotation_keeps_instances_above_the_512_that_stock_can_hold():
    plane = np.arange(1, 30 * 30 + 1, dtype=np.int32).reshape(1, 30, 30)
    masks = LabelMasks(plane, np.zeros(900), np.arange(1, 901))
    assert (masks.rotate((30, 30), 180.0).areas == 1).all()
    with pytest.raises(Exception, match="warpAffine"):
        to_bitmaps(masks).rotate((30, 30), 180.0)


# Mask targets.


def stock_roi_align(masks, boxes, inds, out_shape) -> torch.Tensor:
    """(K, h, w) targets of the same masks as bitmaps, on the device of the boxes."""
    bitmaps = masks.to_tensor(torch.float32, boxes.device)[inds][:, None]
    rois = torch.cat([torch.arange(len(boxes)).to(boxes)[:, None], boxes], dim=1)
    return roi_align(bitmaps, rois, out_shape, 1.0, 0, "avg", True)[:, 0]


def close(ours: torch.Tensor, stock: torch.Tensor) -> None:
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-4)


@pytest.mark.parametrize("chunk", [1 << 19, 3000, 1])
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(masks=label_masks(max_side=32, min_count=1), seed=seeds)
def test_targets_of_many_boxes_equal_roi_align(monkeypatch, chunk, masks, seed):
    """Boxes as a network gives them, 32-bit fractions; several grids at once."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (60, 2, 2)) * [masks.width, masks.height]
    # Half of them on borders of pixels, some without extent.
    corners[::2] = np.round(corners[::2] * 4) / 4
    boxes = torch.from_numpy(np.sort(corners, axis=1).reshape(60, 4)).float()
    inds = torch.from_numpy(rng.integers(0, len(masks), 60))
    stock = stock_roi_align(masks, boxes, inds, (28, 28))
    monkeypatch.setattr(box_masks, "PIXELS_AT_ONCE", chunk)
    close(masks.roi_align(boxes, inds, (28, 28)), stock)
    certain = (stock - 0.5).abs().numpy() > 1e-3
    targets = masks.crop_and_resize(boxes, (28, 28), inds)
    assert isinstance(targets, BitmapMasks)
    assert (targets.masks == (stock >= 0.5).numpy())[certain].all()


# Measuring and converting.


def to_rle(masks: BitmapMasks) -> list[dict]:
    return [coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in masks.masks]


@many
@given(label_masks())
def test_measurements_equal_bitmaps(masks):
    """Runs and foreground have no pixel of ids that no instance has."""
    stock = to_bitmaps(masks)
    bitmaps = stock.masks.astype(bool)
    np.testing.assert_array_equal(masks.areas, stock.areas)
    np.testing.assert_array_equal(
        masks.get_bboxes("hbox").tensor, stock.get_bboxes("hbox").tensor
    )
    assert masks.to_rle() == to_rle(stock)
    patched = np.zeros_like(bitmaps)
    for mask, (y, x, patch) in zip(patched, masks.patches(), strict=True):
        mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    np.testing.assert_array_equal(patched, bitmaps)
    drawn = np.zeros((len(masks), masks.width * masks.height), bool)
    for owner, start, end in masks.runs():
        assert (start[1:] >= end[:-1]).all()
        drawn[np.repeat(owner, end - start), run_pixels(start, end)] = True
    columns = drawn.reshape(-1, masks.width, masks.height)
    np.testing.assert_array_equal(columns.transpose(0, 2, 1), bitmaps)
    np.testing.assert_array_equal(masks.foreground(), bitmaps.any(axis=0))


def test_boxes_have_the_class_that_is_asked_for(masks):
    """RandomCrop's recompute_bbox passes the class, others its name."""
    for kind in ("hbox", HorizontalBoxes):
        boxes = masks.get_bboxes(kind)
        assert isinstance(boxes, HorizontalBoxes)
        assert boxes.tensor.dtype == torch.float32


def test_huge_ids_cost_no_table_of_their_size():
    masks = LabelMasks(
        np.full((1, 2, 3), (1 << 31) - 1, np.int32), [0, 0], [(1 << 31) - 1, 1 << 30]
    )
    assert masks.areas.tolist() == [6, 0]
    assert masks.boxes().tolist() == [[0, 0, 3, 2], [0, 0, 0, 0]]


# Moving and copying.


@pytest.mark.parametrize("to", [{"device": "cpu"}, {"dtype": torch.float16}])
def test_instance_data_moves_masks_nowhere_before_targets_ask(masks, to):
    """Neither validation nor regions to ignore need pixels on a device."""
    data = InstanceData(masks=masks, scores=torch.ones(len(masks)))
    moved = data.to(**to).masks
    assert moved.planes is masks.planes
    boxes, inds = torch.tensor([[1.0, 2, 9, 9]] * 2), torch.tensor([0, 3])
    moved.roi_align(boxes, inds, (7, 7))
    kept = moved._on_device
    moved.roi_align(boxes, inds, (7, 7))
    assert moved._on_device is kept


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(_dump(m))])
def test_copies_are_equal_and_independent(masks, copied):
    source = masks.flip()
    before = to_bitmaps(source)
    other = copied(source)
    assert_same(other, before)
    other.planes[:] = 0
    assert_same(source, before)


def _dump(masks: LabelMasks) -> bytes:
    return pickle.dumps(masks, protocol=5)


def test_a_worker_sends_the_crop_and_not_the_image_it_came_from():
    masks = LabelMasks(np.ones((1, 1000, 1000), np.int32), [0], [1])
    assert len(_dump(masks.crop(np.array([3, 3, 13, 13])))) < 2000
