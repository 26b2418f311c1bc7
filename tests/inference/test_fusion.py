"""Fusion against mmcv, pycocotools and the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms
from pycocotools import mask as coco_mask

from custom.inference.fusion import METHODS, box_ious, fuse, mask_ious, vote_masks
from tests.dense_masks import seeds

many = settings(max_examples=60, deadline=None)
thresholds = st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0])
SIZE = (40, 50)


def draw(seed: int, count: int, num_classes: int = 2) -> dict:
    """Random detections, many of them close to another one."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, SIZE[0], (max(count // 3, 1), 2))
    centre = centre[rng.integers(0, len(centre), count)] + rng.normal(0, 2, (count, 2))
    extent = rng.uniform(3, 12, (count, 2))
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    return {
        "boxes": boxes,
        # No ties: sorting algorithms may break them differently.
        "scores": rng.permutation(count) / max(count, 1) * 0.98 + 0.01,
        "labels": rng.integers(0, num_classes, count),
    }


def draw_masks(boxes: np.ndarray) -> np.ndarray:
    """(N, H, W) ellipses in the boxes, on the image."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    masks = [
        ((x - (a + c) / 2) / (c - a)) ** 2 + ((y - (b + d) / 2) / (d - b)) ** 2 <= 0.25
        for a, b, c, d in boxes
    ]
    return np.array(masks, bool).reshape(len(boxes), *SIZE)


def encode(masks: np.ndarray) -> list[dict]:
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def dense_ious(boxes: np.ndarray) -> np.ndarray:
    """IoU of all pairs by pycocotools."""
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    count = len(boxes)
    return coco_mask.iou(xywh, xywh, [0] * count) if count else np.zeros((0, 0))


@many
@given(seed=seeds, count=st.integers(0, 60))
def test_box_iou_of_pairs_is_that_of_pycocotools(seed, count):
    boxes = draw(seed, count)["boxes"]
    boxes[::7, 2] = boxes[::7, 0]  # boxes without area
    expected = dense_ious(boxes)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(box_ious(boxes).toarray(), expected, atol=1e-12)


@many
@given(seed=seeds, count=st.integers(0, 40))
def test_mask_iou_of_pairs_is_that_of_pycocotools(seed, count):
    rles = encode(draw_masks(draw(seed, count)["boxes"]))
    ious = mask_ious(rles).toarray()
    expected = np.zeros((count, count))
    if count:
        expected = coco_mask.iou(rles, rles, [0] * count)
    # pycocotools gives NaN or 1 for the IoU of two empty masks
    empty = np.array([coco_mask.area(rle) == 0 for rle in rles], bool)
    expected[empty], expected[:, empty] = 0, 0
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(ious, expected, atol=1e-12)


@many
@given(seed=seeds, count=st.integers(1, 60), iou_thr=thresholds)
def test_nms_keeps_what_mmcv_keeps(seed, count, iou_thr):
    data = draw(seed, count)
    # mmcv's classes meet at negative coordinates
    data["boxes"] -= data["boxes"].min()
    fused = fuse(**data, method="nms", iou_thr=iou_thr, num_members=3)
    _, keep = batched_nms(
        torch.from_numpy(data["boxes"]).float(),
        torch.from_numpy(data["scores"]).float(),
        torch.from_numpy(data["labels"]),
        {"type": "nms", "iou_threshold": iou_thr},
    )
    keep = keep.numpy()
    assert [int(group[0]) for group in fused.groups] == keep.tolist()
    np.testing.assert_array_equal(fused.boxes, data["boxes"][keep])
    np.testing.assert_array_equal(fused.scores, data["scores"][keep])


def wbf_as_published(boxes, scores, labels, iou_thr, num_members):
    """The steps of the paper one after the other; (score, label, box, members)."""
    clusters: list[list[int]] = []
    fused: list[np.ndarray] = []
    for i in np.argsort(-scores):
        best, best_iou = None, iou_thr
        for k, cluster in enumerate(clusters):
            if labels[cluster[0]] == labels[i]:
                iou = dense_ious(np.stack([fused[k], boxes[i]]))[0, 1]
                if iou > best_iou:
                    best, best_iou = k, iou
        if best is None:
            clusters.append([i])
            fused.append(boxes[i])
        else:
            clusters[best].append(i)
            weights = scores[clusters[best], None]
            fused[best] = (boxes[clusters[best]] * weights).sum(0) / weights.sum()
    results = []
    for cluster, box in zip(clusters, fused, strict=True):
        share = min(len(cluster), num_members) / num_members
        results.append(
            (scores[cluster].mean() * share, labels[cluster[0]], box, cluster)
        )
    return sorted(results, key=lambda item: -item[0])


@many
@given(seed=seeds, count=st.integers(0, 40), iou_thr=st.sampled_from([0.1, 0.4, 0.55]))
def test_weighted_box_fusion_follows_the_paper(seed, count, iou_thr):
    data = draw(seed, count)
    fused = fuse(**data, method="wbf", iou_thr=iou_thr, num_members=3)
    expected = wbf_as_published(**data, iou_thr=iou_thr, num_members=3)
    assert count == sum(map(len, fused.groups))
    np.testing.assert_allclose(fused.scores, [e[0] for e in expected], atol=1e-12)
    # Groups of equal score may come in either order.
    results = {
        frozenset(group): (score, label, *box)
        for group, score, label, box in zip(
            map(np.ndarray.tolist, fused.groups),
            fused.scores,
            fused.labels,
            fused.boxes,
            strict=True,
        )
    }
    assert set(results) == {frozenset(e[3]) for e in expected}
    for score, label, box, cluster in expected:
        np.testing.assert_allclose(results[frozenset(cluster)], (score, label, *box))


@many
@given(
    seed=seeds,
    count=st.integers(0, 40),
    method=st.sampled_from(METHODS),
    with_masks=st.booleans(),
)
def test_groups_hold_every_detection_once_and_one_class(
    seed, count, method, with_masks
):
    data = draw(seed, count)
    rles = encode(draw_masks(data["boxes"])) if with_masks else None
    fused = fuse(**data, method=method, iou_thr=0.4, num_members=3, rles=rles)
    assert sorted(i for group in fused.groups for i in group) == list(range(count))
    assert np.all(np.diff(fused.scores) <= 0)
    for label, group in zip(fused.labels, fused.groups, strict=True):
        assert set(data["labels"][group]) == {label}
        assert data["scores"][group[0]] == data["scores"][group].max()


@pytest.mark.parametrize("method", METHODS)
def test_members_that_agree_to_the_pixel_give_one_of_them_back(method):
    """Cells that touch: their boxes overlap, their masks do not."""
    one = draw(0, 12, num_classes=1)
    one["boxes"] = np.array(
        [[5 * i, 3 * j, 5 * i + 9, 3 * j + 4] for i in range(4) for j in range(3)],
        float,
    )
    labels = np.zeros(SIZE, int)
    for k, (x1, y1, x2, y2) in enumerate(one["boxes"].astype(int), 1):
        labels[y1 : y2 - 1, x1 : x2 - 4] = k
    masks = encode(np.stack([labels == k for k in range(1, 13)]))
    five = {key: np.concatenate([value] * 5) for key, value in one.items()}
    fused = fuse(**five, method=method, iou_thr=0.5, num_members=5, rles=masks * 5)
    order = np.argsort(-one["scores"])
    np.testing.assert_allclose(fused.scores[:12], one["scores"][order])
    np.testing.assert_allclose(fused.boxes[:12], one["boxes"][order])
    assert len(fused) == 12
    voted = vote_masks(masks * 5, five["scores"], fused.groups[:12])
    assert voted == [masks[i] for i in order]


@many
@given(seed=seeds, count=st.integers(1, 12), flat=st.booleans())
def test_vote_is_that_of_the_pixels(seed, count, flat):
    rng = np.random.default_rng(seed)
    masks = rng.random((count, 7, 9)) < rng.choice([0.2, 0.5, 0.9, 1.0])
    # Eighths: sums are exact in floating point, so that halves are halves.
    scores = np.full(count, 0.5) if flat else rng.integers(0, 8, count) / 8
    groups = np.array_split(rng.permutation(count), rng.integers(1, count + 1))
    voted = vote_masks(encode(masks), scores, groups)
    for rle, group in zip(voted, groups, strict=True):
        weights = scores[group] if scores[group].any() else np.ones(len(group))
        votes = (masks[group] * weights[:, None, None]).sum(axis=0)
        expected = votes >= weights.sum() / 2
        if weights.sum() in (1, 2, 4) or flat or len(group) < 3:
            assert rle == encode(expected[None])[0]
        else:  # weights that are no exact fractions may miss a half by 2**-40
            differs = coco_mask.decode(rle).astype(bool) != expected
            assert not (differs & (votes != weights.sum() / 2)).any()


def test_nothing_to_fuse_gives_nothing():
    fused = fuse(**draw(0, 0), method="wbf", iou_thr=0.5, num_members=2, rles=[])
    assert len(fused) == 0 and fused.boxes.shape == (0, 4)
    assert vote_masks([], np.zeros(0), []) == []
