"""One training step on dense crops: stock masks and assigner against ours.

Forward and backward of the R50 baseline and the slim R18 on real cells tiled up to 50,
200, 400 and 800 in one crop. Stock: FCNMaskHead, MaxIoUAssigner, bitmaps or polygons.

Example::

    python benchmarks/bench_step.py --root data/hw3
"""

from __future__ import annotations

from common import ROOT, Case, parse_root, run_cases

# isort: split
from functools import partial

import numpy as np
import torch
from bench_loading import outline
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from samples import entries, load_masks

import custom.models  # noqa: F401 (registers)
from custom.structures import LabelMasks

CONFIGS = {
    "R50": ("cell/maskrcnn_r50.py", 1024),
    "slim R18": ("demo/maskrcnn_r18-slim.py", 512),
}
COUNTS = (50, 200, 400, 800)


def tiled_cells(root, count: int, side: int) -> LabelMasks:
    """The densest region's cells, repeated over a crop, as many as asked for."""
    entry = max(entries(root), key=lambda e: sum(e["counts"]))
    masks = load_masks(entry).renumber()
    plane = masks.planes[0]
    plane = plane[: min(side, plane.shape[0]), : min(side, plane.shape[1])]
    ways = [-(-side // length) for length in plane.shape]
    tiles = [
        [np.where(plane, plane + (i * ways[1] + j) * (len(masks) + 1), 0)]
        for i in range(ways[0])
        for j in range(ways[1])
    ]
    rows = [
        np.hstack([tile[0] for tile in tiles[i * ways[1] : (i + 1) * ways[1]]])
        for i in range(ways[0])
    ]
    image = np.vstack(rows)[:side, :side]
    masks = LabelMasks.from_label_images([image])[0]
    chosen = np.random.default_rng(0).permutation(len(masks))[:count]
    return masks[np.sort(chosen)]


def stock_parts(node):
    """Replace this project's parts of a model by those of MMDetection."""
    names = {
        "RoIFCNMaskHead": "FCNMaskHead",
        "SparseMaxIoUAssigner": "MaxIoUAssigner",
        "Fp32RoIExtractor": "SingleRoIExtractor",
    }
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = names.get(value, value) if key == "type" else stock_parts(value)
    elif isinstance(node, list):
        return [stock_parts(item) for item in node]
    return node


def build(path: str, stock: bool) -> torch.nn.Module:
    """A model with random weights, in training mode."""
    init_default_scope("mmdet")
    config = Config.fromfile(ROOT / "configs" / path).model
    config.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(stock_parts(config) if stock else config).train()


def sample(masks, boxes, side: int) -> dict:
    """One image of noise with its instances."""
    meta = {"img_shape": (side, side), "ori_shape": (side, side)}
    item = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
    labels = torch.arange(len(boxes)) % 4
    item.gt_instances = InstanceData(
        bboxes=torch.from_numpy(boxes), labels=labels, masks=masks
    )
    item.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=labels[:0], masks=masks[:0]
    )
    image = torch.randint(0, 255, (3, side, side), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [item]}


def step(model: torch.nn.Module, batch: dict) -> dict:
    """Losses of one image and their gradients."""
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, True)
    loss, log = model.parse_losses(model(**data, mode="loss"))
    model.zero_grad()
    loss.backward()
    return {key: value.item() for key, value in log.items()}


def cases(root) -> list[Case]:
    """Both models, each number of cells, against bitmaps and polygons."""
    rows = []
    for name, (path, side) in CONFIGS.items():
        for count in COUNTS:

            def make(path=path, side=side, count=count):
                masks = tiled_cells(root, count, side)
                frames = {
                    "bitmaps": BitmapMasks(masks.to_ndarray(), side, side),
                    "polygons": PolygonMasks(
                        [[np.array(p) for p in outline(m)] for m in masks.patches()],
                        side,
                        side,
                    ),
                    "labels": masks,
                }
                return {
                    "stock": build(path, stock=True),
                    "ours": build(path, stock=False),
                    **{k: sample(m, masks.boxes(), side) for k, m in frames.items()},
                }

            def run(data, model: str, masks: str) -> dict:
                return step(data[model], data[masks])

            for kind in ("bitmaps", "polygons"):
                default = " (its default)" if kind == "bitmaps" else ""
                rows.append(
                    Case(
                        f"training step, {name}, {side}², {count} cells",
                        make,
                        partial(run, model="stock", masks=kind),
                        partial(run, model="ours", masks="labels"),
                        count,
                        against=f"MMDetection {kind}{default}",
                        repeats=3,
                        same=lambda a, b: a == b,
                    )
                )
    return rows


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
