"""Loading and augmenting training samples: bitmaps and polygons against label images.

The pipeline is load, scale by 0.5 to 2, crop to 1024², flip, pack, with the same random
draws on both sides. MMDetection reads its instances from memory, as CocoDataset keeps
them, and decodes RLE to BitmapMasks (its default) or takes polygons as PolygonMasks
(`poly2mask=False`; outlines without holes). Here the label images are read from disk.
`image alone` is our pipeline without masks: the physical limit. One row draws the same
RLE as label images.

Example::

    python benchmarks/bench_loading.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import cv2
import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from samples import entries, load_masks

import custom.transforms  # noqa: F401  (registers)
from custom.structures import LabelMasks
from custom.structures.rle import to_json

GEOMETRY = [
    {"type": "RandomScale", "factor_range": (0.5, 2.0)},
    {
        "type": "RandomCrop",
        "crop_size": (1024, 1024),
        "allow_negative_crop": True,
        "recompute_bbox": True,
    },
    {
        "type": "RandomFlip",
        "prob": [0.25] * 3,
        "direction": ["horizontal", "vertical", "diagonal"],
    },
    {"type": "PackDetInputs"},
]
BITMAPS = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_mask": True, "poly2mask": True},
    *GEOMETRY,
]
POLYGONS = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_mask": True, "poly2mask": False},
    *GEOMETRY,
]
OURS = [{"type": "LoadCellImage"}, {"type": "LoadLabelMasks"}, *GEOMETRY]
IMAGE = [{"type": "LoadCellImage"}, *GEOMETRY]


def as_coco(entry: dict, polygons: bool = False) -> dict:
    """An entry as CocoDataset gives it: boxes, labels and RLE or polygons in memory."""
    masks = load_masks(entry)
    labels = np.repeat(np.arange(len(entry["counts"])), entry["counts"])
    shapes = map(outline, masks.patches()) if polygons else map(to_json, masks.to_rle())
    return {
        **{k: v for k, v in entry.items() if k != "label_files"},
        "instances": [
            {
                "bbox": box.tolist(),
                "bbox_label": int(label),
                "ignore_flag": 0,
                "mask": shape,
            }
            for box, label, shape in zip(masks.boxes(), labels, shapes, strict=True)
        ],
    }


def outline(patch: tuple[int, int, np.ndarray]) -> list[list[float]]:
    """The outer contours of a mask through its border pixels, as converters draw it."""
    y, x, mask = patch
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y)
    )
    results = [c.astype(float).ravel().tolist() for c in contours if len(c) > 2]
    h, w = mask.shape
    return results or [[x, y, x + w, y, x + w, y + h, x, y + h]]


def epoch(steps: list[dict]):
    """A function that runs a pipeline over a list of entries."""
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])

    def run(data: list[dict]) -> list[int]:
        counts = []
        for number, entry in enumerate(data):
            np.random.seed(number)  # the same draws on both sides
            sample = pipeline({**entry})["data_samples"]
            counts.append(len(sample.gt_instances))
        return counts

    return run


def same_pixels(group: list[dict], coco: list[dict]) -> bool:
    """Whether the first sample has the same masks, pixel by pixel, on both sides."""
    masks = []
    for entry, steps in ((coco[0], BITMAPS), (group[0], OURS)):
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        np.random.seed(0)
        gt = pipeline({**entry})["data_samples"].gt_instances
        masks.append(gt.masks.to_ndarray())
    return np.array_equal(*masks)


def loading(name: str, group: list[dict]) -> list[Case]:
    """Three rows: against bitmaps, polygons and the image alone."""
    bitmaps = [as_coco(entry) for entry in group]
    data = {
        "ours": group,
        "bitmaps": bitmaps,
        "polygons": [as_coco(entry, polygons=True) for entry in group],
    }
    ours, rows = epoch(OURS), []
    for key, against, steps in (
        ("bitmaps", "MMDetection bitmaps", BITMAPS),
        ("polygons", "MMDetection polygons", POLYGONS),
        ("ours", "the image without masks", IMAGE),
    ):
        run = epoch(steps)
        rows.append(
            Case(
                f"load, {name}",
                lambda: data,
                lambda d, key=key, run=run: run(d[key]),
                lambda d: ours(d["ours"]),
                sum(sum(e["counts"]) for e in group),
                against=against,
                repeats=1,
                same=(lambda a, b: a == b and same_pixels(group, bitmaps))
                if key == "bitmaps"
                else None,
                warm_up=lambda d: {k: v[:1] for k, v in d.items()},
            )
        )
    return rows


def from_rles(root) -> Case:
    """The instances of the densest region from RLE."""
    entry = max(entries(root), key=lambda e: sum(e["counts"]))
    size, rles = (entry["height"], entry["width"]), load_masks(entry).to_rle()

    def stock(rles: list[dict]) -> BitmapMasks:
        return BitmapMasks([coco_mask.decode(rle) for rle in rles], *size)

    return Case(
        f"masks from RLE, {size[0]}x{size[1]}",
        lambda: rles,
        stock,
        lambda rles: LabelMasks.from_rles(rles, size),
        len(rles),
        same=lambda a, b: np.array_equal(a.masks, b.to_ndarray()),
        warm_up=lambda rles: rles[:1],
    )


def cases(root) -> list[Case]:
    """A dense sample, half an epoch, and masks from RLE."""
    init_default_scope("mmdet")
    dense = next(e for e in entries(root) if sum(e["counts"]) >= 500)
    # One draw says little: the scale alone changes the time tenfold.
    name = f"sample {dense['height']}x{dense['width']}, 2 draws"
    some = entries(root)[::2]
    return [
        from_rles(root),
        *loading(name, [dense] * 2),
        *loading(f"{len(some)} images", some),
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
