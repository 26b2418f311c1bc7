"""Fuse the detections of several models in one image, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import mask as fast_mask
from scipy.sparse import csr_matrix

from custom.inference.tiles import Detections, box_pairs, leaders, shared_pixels
from custom.structures.rle import decode_runs, encode_runs, overlap_areas

METHODS = ("nms", "wbf")


@dataclass
class Fused:
    """Fused detections, best score first.

    Attributes:
        boxes: (M, 4) float64, xyxy.
        scores: (M,) float64.
        labels: (M,) int64.
        groups: For each of the M the indices of the detections that it was made of,
            (n,) int64, that of the best score first.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    groups: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.scores)


def fuse(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    method: str,
    iou_thr: float,
    num_members: int,
    rles: Sequence[dict] | None = None,
) -> Fused:
    """Fuse detections of one image; those of different classes never meet.

    * ``nms``: a detection goes when a better one overlaps it by more than ``iou_thr``.
    * ``wbf``: weighted boxes fusion (Solovyev et al., Image and Vision Computing 107,
      2021): boxes that overlap a fused box by more than ``iou_thr`` join it; the fused
      box is their mean weighted by score, its score their mean score times
      ``min(n, num_members) / num_members`` for n boxes. With masks the overlap is that
      with the best mask of the group, because the fused mask is not known yet.

    Args:
        boxes: (N, 4) float64, xyxy in pixels.
        scores: (N,) float64 in 0..1.
        labels: (N,) int64.
        method: One of :data:`METHODS`.
        iou_thr: See above.
        num_members: Models that predicted the image.
        rles: N COCO RLE dicts (bytes); with them overlap is that of the masks.
    """
    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        class_rles = None if rles is None else [rles[i] for i in rows]
        fused_boxes, fused_scores, groups = _fuse_class(
            boxes[rows], scores[rows], method, iou_thr, num_members, class_rles
        )
        groups = [rows[group] for group in groups]
        parts.append((fused_boxes, fused_scores, np.full(len(groups), label), groups))
    if not parts:
        return Fused(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), [])
    columns = list(zip(*parts, strict=True))
    order = np.argsort(-np.concatenate(columns[1]), kind="stable")
    groups = [group for part in columns[3] for group in part]
    fused, kept_scores, kept_labels = (np.concatenate(c)[order] for c in columns[:3])
    return Fused(fused, kept_scores, kept_labels, [groups[i] for i in order])


def _fuse_class(
    boxes: np.ndarray,
    scores: np.ndarray,
    method: str,
    iou_thr: float,
    num_members: int,
    rles: list[dict] | None,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """:func:`fuse` for one class; the input is sorted, best score first."""
    if method == "wbf" and rles is None:
        groups = _group_by_fused_box(boxes, scores, iou_thr)
    else:
        overlaps = box_ious(boxes) if rles is None else mask_ious(rles)
        join = _group_by_best_leader if method == "wbf" else _group_by_first_leader
        groups = join(overlaps, iou_thr)
    if method == "wbf":
        boxes = np.stack([_mean_box(boxes[g], scores[g]) for g in groups])
        share = [min(len(g), num_members) / num_members for g in groups]
        return boxes, np.array([scores[g].mean() for g in groups]) * share, groups
    leaders = np.array([group[0] for group in groups])
    return boxes[leaders], scores[leaders], groups


def _group_by_first_leader(overlaps: csr_matrix, iou_thr: float) -> list[np.ndarray]:
    """Non-maximum suppression: each joins the best before it that it overlaps."""
    first, second = (overlaps > iou_thr).nonzero()
    return _groups_of(leaders(first, second, overlaps.shape[0]))


def _group_by_best_leader(overlaps: csr_matrix, iou_thr: float) -> list[np.ndarray]:
    """Each joins the leader that it overlaps most, or becomes one."""
    leader = np.full(overlaps.shape[0], -1)
    for i in range(len(leader)):
        near = slice(overlaps.indptr[i], overlaps.indptr[i + 1])
        neighbours, ious = overlaps.indices[near], overlaps.data[near]
        ious = np.where(leader[neighbours] == neighbours, ious, 0.0)
        best = ious.argmax() if len(ious) else None
        joins = best is not None and ious[best] > iou_thr
        leader[i] = neighbours[best] if joins else i
    return _groups_of(leader)


def _groups_of(leader: np.ndarray) -> list[np.ndarray]:
    """The members of each leader; they follow it in the order of the input."""
    order = np.argsort(leader, kind="stable")
    cuts = np.flatnonzero(np.diff(leader[order])) + 1
    return np.split(order, cuts)


def _group_by_fused_box(
    boxes: np.ndarray, scores: np.ndarray, iou_thr: float
) -> list[np.ndarray]:
    """Each joins the fused box that it overlaps most, which then moves."""
    fused = np.zeros((len(boxes), 4))
    groups: list[list[int]] = []
    for i, box in enumerate(boxes):
        ious = _ious_with(box, fused[: len(groups)])
        best = int(ious.argmax()) if len(ious) else 0
        if len(ious) and ious[best] > iou_thr:
            groups[best].append(i)
            fused[best] = _mean_box(boxes[groups[best]], scores[groups[best]])
        else:
            fused[len(groups)] = box
            groups.append([i])
    return [np.array(group) for group in groups]


def _mean_box(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The mean box weighted by score; the plain mean where all scores are 0."""
    return np.average(boxes, axis=0, weights=scores if scores.sum() > 0 else None)


def _ious_with(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n,) IoU of one box with n others."""
    extent = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = extent.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas + (box[2:] - box[:2]).prod() - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_ious(boxes: np.ndarray) -> csr_matrix:
    """IoU of all pairs of boxes that overlap.

    Args:
        boxes: (N, 4) float, xyxy.

    Returns:
        (N, N) symmetric, without its diagonal.
    """
    first, second = box_pairs(boxes)
    low = np.maximum(boxes[first, :2], boxes[second, :2])
    shared = (np.minimum(boxes[first, 2:], boxes[second, 2:]) - low).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return _symmetric(
        first, second, shared / (areas[first] + areas[second] - shared), len(boxes)
    )


def mask_ious(rles: Sequence[dict]) -> csr_matrix:
    """IoU of all pairs of masks that overlap; as :func:`box_ious`."""
    first, second, shared = overlap_areas(rles)
    areas = fast_mask.area(list(rles)).astype(np.int64) if len(rles) else np.zeros(0)
    ious = shared / (areas[first] + areas[second] - shared)
    return _symmetric(first, second, ious, len(rles))


def _symmetric(
    first: np.ndarray, second: np.ndarray, values: np.ndarray, count: int
) -> csr_matrix:
    """A symmetric sparse matrix of the values of its upper half."""
    half = csr_matrix((values, (first, second)), (count, count))
    return (half + half.T).tocsr()


def vote_masks(
    rles: Sequence[dict], scores: np.ndarray, groups: Sequence[np.ndarray]
) -> list[dict]:
    """One mask for each group: the pixels where half of the votes or more say so.

    The votes of a mask are its score. Votes change only at the ends of the runs, so
    that time and memory follow the number of runs.

    Args:
        rles: N COCO RLE dicts (bytes) of one image.
        scores: (N,) float.
        groups: Index arrays into the two; a detection is in one group at most.

    Returns:
        A COCO RLE dict for each group.
    """
    if not groups:
        return []
    member = np.concatenate(groups)
    group = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    weight = np.asarray(scores, np.float64)[member]
    total = np.bincount(group, weight)[group]
    even = 1 / np.bincount(group)[group]
    weight = np.divide(weight, total, out=even, where=total > 0)
    # Whole numbers add up without an error, so that an exact half is a half.
    votes = np.round(weight * (1 << 40)).astype(np.int64)
    needed = np.bincount(group, votes).astype(np.int64)  # exact: far below 2**53
    owner, start, end = decode_runs([rles[i] for i in member])
    where = np.concatenate([start, end])
    whose = np.tile(group[owner], 2)
    change = np.concatenate([votes[owner], -votes[owner]])
    order = np.lexsort((where, whose))
    where, whose = where[order], whose[order]
    standing = np.cumsum(change[order])
    inside = 2 * standing >= needed[whose]
    # A piece goes from one change to the next; behind the last of a group stands 0.
    inside[:-1] &= where[:-1] < where[1:]
    piece = np.flatnonzero(inside)
    return encode_runs(
        whose[piece], where[piece], where[piece + 1], len(groups), rles[0]["size"]
    )


def best_class(detections: Detections) -> np.ndarray:
    """Indices of the detections that are left if each cell has one class.

    Of two masks of different classes with an IoU above a half the better stays.

    Args:
        detections: N detections, best score first.
    """
    labels, areas = detections.labels, detections.masks.areas
    first, second = box_pairs(detections.masks.windows)
    other = labels[first] != labels[second]
    first, second = first[other], second[other]
    shared = shared_pixels(detections.masks, first, second)
    # An IoU above a half means that a third of both areas is shared.
    same = 3 * shared > areas[first] + areas[second]
    leader = leaders(first[same], second[same], len(detections))
    return np.flatnonzero(leader == np.arange(len(leader)))
