"""Fusing the masks of five models: full frames and dense IoU, against runs.

Example::

    python benchmarks/bench_fusion.py --root data/hw3

Each of the five members has the same cells, moved by about a pixel. The naive way
compares full frames pair by pair and is too slow for more than 40 cells; the stock way
takes the dense IoU matrix of pycocotools and averages full frames.
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import numpy as np
import torch
from pycocotools import mask as coco_mask
from samples import entries, load_masks

from custom.inference.fusion import fuse, mask_ious, vote_masks
from custom.structures import RoIMasks

SIZE, MEMBERS, IOU = (1771, 1760), 5, 0.5


def make_members(root, cells: int) -> dict:
    """Detections of all members with the shapes of real cells."""
    densest = max(entries(root), key=lambda e: sum(e["counts"]))
    masks = load_masks(densest)
    rng = np.random.default_rng(0)
    inds = rng.integers(0, len(masks), cells)
    boxes = masks.boxes()[inds]
    probs = masks.roi_align(torch.from_numpy(boxes), torch.from_numpy(inds), (28, 28))
    extent = boxes[:, 2:] - boxes[:, :2]
    corner = rng.random((cells, 2)) * (np.array(SIZE[::-1]) - extent)
    boxes = np.tile(np.concatenate([corner, corner + extent], axis=1), (MEMBERS, 1))
    boxes += np.tile(rng.normal(0, 1, (len(boxes), 2)), 2)
    boxes = torch.from_numpy(boxes).float()
    return {
        "boxes": boxes.double().numpy(),
        "scores": rng.uniform(0.3, 1, len(boxes)),
        "labels": np.tile(rng.integers(0, 4, cells), MEMBERS),
        "rles": RoIMasks(probs.repeat(MEMBERS, 1, 1), boxes, SIZE, 0.5).to_rle(),
    }


def ours(data: dict) -> list[tuple[float, bytes]]:
    """Groups by mask IoU and their votes, as tools/ensemble.py --mask-iou does it."""
    fused = fuse(**data, method="wbf", iou_thr=IOU, num_members=MEMBERS)
    masks = vote_masks(data["rles"], data["scores"], fused.groups)
    return sorted(zip(fused.scores, [m["counts"] for m in masks], strict=True))


def dense(data: dict) -> list[tuple[float, bytes]]:
    """The IoU matrix of each class by pycocotools, full frames averaged."""
    scores, fused = data["scores"], []
    for label in np.unique(data["labels"]):
        own = np.flatnonzero(data["labels"] == label)
        own = own[np.argsort(-scores[own])]
        rles = [data["rles"][i] for i in own]
        ious = coco_mask.iou(rles, rles, [0] * len(own))
        fused += _group(own, lambda i, j, ious=ious: ious[i, j], scores)
    return sorted(_average(data, group) for group in fused)


def naive(data: dict) -> list[tuple[float, bytes]]:
    """As :func:`dense`, but the full frames of each pair are compared."""
    frames = [coco_mask.decode(rle).astype(bool) for rle in data["rles"]]
    scores, fused = data["scores"], []
    for label in np.unique(data["labels"]):
        own = np.flatnonzero(data["labels"] == label)
        own = own[np.argsort(-scores[own])]

        def iou(i: int, j: int, own=own) -> float:
            one, two = frames[own[i]], frames[own[j]]
            return np.count_nonzero(one & two) / max(np.count_nonzero(one | two), 1)

        fused += _group(own, iou, scores)
    return sorted(_average(data, group) for group in fused)


def _group(own: np.ndarray, iou, scores: np.ndarray) -> list[list[int]]:
    """Each detection joins the leader that it overlaps most, or becomes one."""
    leaders: list[int] = []
    groups: list[list[int]] = []
    for i in range(len(own)):
        results = [iou(i, j) for j in leaders]
        best = int(np.argmax(results)) if results else 0
        if results and results[best] > IOU:
            groups[best].append(own[i])
        else:
            leaders.append(i)
            groups.append([own[i]])
    return groups


def _average(data: dict, group: list[int]) -> tuple[float, bytes]:
    """Score and mask of a group from full frames."""
    scores = data["scores"][group]
    votes = sum(
        score * coco_mask.decode(data["rles"][i])
        for i, score in zip(group, scores, strict=True)
    )
    mask = (votes >= scores.sum() / 2).astype(np.uint8, order="F")
    share = min(len(group), MEMBERS) / MEMBERS
    return scores.mean() * share, coco_mask.encode(mask)["counts"]


def same(stock: list, ours: list) -> bool:
    """Equal masks, and scores but for rounding."""
    return [m for _, m in stock] == [m for _, m in ours] and np.allclose(
        [s for s, _ in stock], [s for s, _ in ours]
    )


def cases(root) -> list[Case]:
    """All pairs of masks, and the whole fusion, small and large."""

    def few(data: dict) -> dict:
        return {key: value[:8] for key, value in data.items()}

    def case(name: str, cells: int, stock, function, equal, warm_up=few) -> Case:
        return Case(
            f"{name}, {MEMBERS} x {cells:,} masks, {SIZE[0]}x{SIZE[1]}",
            lambda: make_members(root, cells),
            stock,
            function,
            MEMBERS * cells,
            against="full frames, by hand",
            repeats=1,
            same=equal,
            warm_up=warm_up,
        )

    return [
        case("fuse, full frames pair by pair", 40, naive, ours, same),
        case("fuse, dense IoU and full frames", 300, dense, ours, same),
        case(
            "IoU of all pairs",
            1000,
            lambda data: coco_mask.iou(
                data["rles"], data["rles"], [0] * len(data["rles"])
            ),
            lambda data: mask_ious(data["rles"]),
            lambda a, b: np.allclose(
                a - np.diag(a.diagonal()), b.toarray(), atol=1e-12
            ),
        ),
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
