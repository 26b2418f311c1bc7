"""Loading and augmenting training samples: N bitmaps against label images.

The pipeline is load, scale by 0.5 to 2, crop to 1024², flip, pack, with the same random
draws on both sides. The stock side reads its instances as RLE from memory, as
CocoDataset keeps them, and decodes them to BitmapMasks; ours reads the label images
from disk. `image alone` is our pipeline without masks: the physical limit.

Example::

    python benchmarks/bench_loading.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import tempfile

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.registry import init_default_scope
from samples import entries, load_masks

import custom.transforms  # noqa: F401  (registers)
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
STOCK = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_mask": True, "poly2mask": True},
    *GEOMETRY,
]
CACHE = tempfile.mkdtemp()
OURS = [
    {"type": "LoadCellImage"},
    {"type": "LoadLabelMasks", "cache_dir": CACHE},
    *GEOMETRY,
]
UNCACHED = [{"type": "LoadCellImage"}, {"type": "LoadLabelMasks"}, *GEOMETRY]
IMAGE = [{"type": "LoadCellImage"}, *GEOMETRY]


def as_coco(entry: dict) -> dict:
    """An entry as CocoDataset gives it: boxes, labels and RLE in memory."""
    masks = load_masks(entry)
    boxes = masks.boxes()
    labels = np.repeat(np.arange(len(entry["counts"])), entry["counts"])
    return {
        **{k: v for k, v in entry.items() if k != "label_files"},
        "instances": [
            {
                "bbox": box.tolist(),
                "bbox_label": int(label),
                "ignore_flag": 0,
                "mask": to_json(rle),
            }
            for box, label, rle in zip(boxes, labels, masks.to_rle(), strict=True)
        ],
    }


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


def cases(root) -> list[Case]:
    """Single dense samples, then an epoch."""
    init_default_scope("mmdet")
    dense = [e for e in entries(root) if sum(e["counts"]) >= 500]
    found = []
    # One draw says little: the scale alone changes the time tenfold.
    groups = [(f"sample {e['height']}x{e['width']}, 4 draws", [e] * 4) for e in dense]
    groups.append((f"epoch of {len(entries(root))} images", entries(root)))
    for name, group in groups:
        count = sum(sum(e["counts"]) for e in group)
        coco = [as_coco(e) for e in group]

        def make(group=group, coco=coco):
            return {"stock": coco, "ours": group}

        def small(data):
            least = min(
                range(len(data["ours"])), key=lambda i: data["ours"][i]["width"]
            )
            return {side: [items[least]] for side, items in data.items()}

        single = group[0] is group[-1]
        stock, ours, image = epoch(STOCK), epoch(OURS), epoch(IMAGE)
        ours(group)  # fills the cache
        found.append(
            Case(
                f"load, {name}",
                make,
                lambda data, run=stock: run(data["stock"]),
                lambda data, run=ours: run(data["ours"]),
                count,
                repeats=7 if single else 3,
                stock_repeats=1,
                same=lambda a, b: a == b,
                warm_up=None if single else small,
            )
        )
        found.append(
            Case(
                f"load, {name}: against the image alone",
                make,
                lambda data, run=image: run(data["ours"]),
                lambda data, run=ours: run(data["ours"]),
                count,
                repeats=15 if single else 5,
                stock_repeats=15 if single else 5,
            )
        )
    uncached = epoch(UNCACHED)
    found.append(
        Case(
            f"load, {name}: without the cache, against the image alone",
            make,
            lambda data, run=image: run(data["ours"]),
            lambda data: uncached(data["ours"]),
            count,
            stock_repeats=5,
            warm_up=small,
        )
    )
    return found


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
