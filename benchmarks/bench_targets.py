"""Mask targets of 128 proposals: bitmaps and polygons against label images.

Example::

    python benchmarks/bench_targets.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import numpy as np
import torch
from bench_loading import outline
from mmdet.structures.mask import BitmapMasks, PolygonMasks, mask_target
from mmengine.config import ConfigDict
from samples import entries, load_masks

from custom.structures import LabelMasks

SIDE, PROPOSALS = 1024, 128


def crop_1024(entry: dict) -> LabelMasks:
    """The masks in the top left 1024² of an image, padded to that size."""
    masks = load_masks(entry)
    masks = masks.crop(np.array([0, 0, SIDE, SIDE])).pad((SIDE, SIDE))
    return masks[masks.areas > 0]


def as_polygons(masks: LabelMasks) -> PolygonMasks:
    """The outlines of masks."""
    shapes = [[np.array(part) for part in outline(p)] for p in masks.patches()]
    return PolygonMasks(shapes, masks.height, masks.width)


def cases(root) -> list[Case]:
    """The two densest images."""
    results = []
    for entry in sorted(entries(root), key=lambda e: -sum(e["counts"]))[:2]:
        masks = crop_1024(entry)

        def make(masks=masks):
            rng = np.random.default_rng(0)
            inds = rng.integers(0, len(masks), PROPOSALS)
            boxes = masks.boxes()[inds]
            boxes += (
                rng.normal(0, 0.1, boxes.shape) * (boxes[:, 2:] - boxes[:, :2]).mean()
            )
            boxes = boxes.clip(0, SIDE)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            return {
                "boxes": torch.from_numpy(boxes.astype(np.float32)),
                "inds": torch.from_numpy(inds),
                "labels": masks,
                "bitmaps": BitmapMasks(masks.to_ndarray(), SIDE, SIDE),
                "polygons": as_polygons(masks),
            }

        def stock(data, kind="bitmaps"):
            return mask_target(
                [data["boxes"]],
                [data["inds"]],
                [data[kind]],
                ConfigDict(mask_size=28),
            )

        def polygons(data):
            return stock(data, "polygons")

        def ours(data):
            targets = data["labels"].roi_align(data["boxes"], data["inds"], (28, 28))
            return (targets >= 0.5).float()

        name = f"mask targets, {entry['name']}, {PROPOSALS} proposals, {SIDE}²"
        for there, against in (
            (stock, "MMDetection bitmaps"),
            (polygons, "MMDetection polygons"),
        ):
            results.append(
                Case(
                    name,
                    make,
                    there,
                    ours,
                    len(masks),
                    against=against,
                    same=torch.equal,
                    warm_up=lambda data: {
                        **data,
                        "boxes": data["boxes"][:1],
                        "inds": data["inds"][:1],
                    },
                )
            )
    return results


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
