r"""One training step on dense crops: MMDetection's masks and assigner against ours.

Forward and backward of one crop of real cells, tiled up, each in a process of its own.
Printed are processor seconds, the peak of resident memory with model and input, and the
share that is not the network: preparing, proposals, assignment, sampling, targets and
losses. The network is the forward of backbone, neck, heads and RoI extractors, and the
whole backward; it grows with the RoIs of the mask head, at most 128, which few cells do
not fill while the weights are random. Bitmaps are MMDetection's default; polygons lose
holes. The losses of a number of cells agree, but for the rounding of target pixels.

Example::

    python benchmarks/bench_step.py --root data/hw3
    python benchmarks/bench_step.py --config configs/demo/maskrcnn_r18-slim.py \
        --side 512 --cells 50 300
"""

from __future__ import annotations

from common import ROOT, SAMPLES, peak_of, resident_mb

# isort: split
import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from bench_targets import as_polygons
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from samples import entries, load_masks

import custom.models  # noqa: F401 (registers)
from custom.structures import LabelMasks

KINDS = ("bitmaps", "polygons", "here")
STOCK = {
    "RoIFCNMaskHead": "FCNMaskHead",
    "SparseMaxIoUAssigner": "MaxIoUAssigner",
    "Fp32RoIExtractor": "SingleRoIExtractor",
}


def tiled_cells(root: Path, count: int, side: int) -> LabelMasks:
    """``count`` cells of the densest region, repeated over a crop."""
    entry = max(
        (e for e in entries(root) if sum(e["counts"]) > 100),
        key=lambda e: sum(e["counts"]) / e["height"] / e["width"],
    )
    masks = load_masks(entry).renumber()
    ways = [-(-side // length) for length in masks.planes[0].shape]
    number = np.arange(np.prod(ways)).reshape(ways)
    first = np.kron(number, np.ones_like(masks.planes[0])) * len(masks)
    plane = np.tile(masks.planes[0], ways)
    plane = np.where(plane, plane + first, 0)[:side, :side]
    masks = LabelMasks.from_label_images([plane])[0]
    if len(masks) < count:
        raise SystemExit(f"{side}² holds {len(masks)} cells, not {count}")
    chosen = np.random.default_rng(0).permutation(len(masks))[:count]
    return masks[np.sort(chosen)]


def stock_parts(node):
    """Replace this project's parts of a model by those of MMDetection."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = STOCK.get(value, value) if key == "type" else stock_parts(value)
    elif isinstance(node, list):
        return [stock_parts(item) for item in node]
    return node


def build(path: str, stock: bool) -> torch.nn.Module:
    """A model with random weights, in training mode."""
    init_default_scope("mmdet")
    config = Config.fromfile(path).model
    config.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(stock_parts(config) if stock else config).train()


def sample(masks: LabelMasks, kind: str) -> dict:
    """One image of noise with its instances."""
    side, boxes = masks.height, torch.from_numpy(masks.boxes())
    if kind == "bitmaps":
        masks = BitmapMasks(masks.to_ndarray(), side, side)
    elif kind == "polygons":
        masks = as_polygons(masks)
    meta = {"img_shape": (side, side), "ori_shape": (side, side)}
    item = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
    item.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.arange(len(boxes)) % 4, masks=masks
    )
    item.ignored_instances = item.gt_instances[:0]
    image = torch.randint(0, 255, (3, side, side), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [item]}


class NetworkTime:
    """Processor seconds that a detector spends in the layers of its forward.

    Attributes:
        seconds: Their sum.
        output: What the layers called last, the mask head's, gave.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.seconds = 0.0
        heads = [model.roi_head.bbox_head, model.roi_head.mask_head]
        heads += [model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor]
        for module in (model.backbone, model.neck, model.rpn_head, *heads):
            module.register_forward_pre_hook(self._start)
            module.register_forward_hook(self._stop)

    def _start(self, *_) -> None:
        self._since = time.process_time()

    def _stop(self, module, inputs, output) -> None:
        self.seconds += time.process_time() - self._since
        self.output = output


def measure(path: str, root: Path, kind: str, count: int, side: int) -> dict:
    """One row."""
    torch.set_num_threads(1)
    start = resident_mb()
    model = build(path, stock=kind != "here")
    batch = sample(tiled_cells(root, count, side), kind)
    small = sample(tiled_cells(root, 1, 128), kind)
    model.parse_losses(model(**model.data_preprocessor(small, True), mode="loss"))
    network = NetworkTime(model)
    torch.manual_seed(0)
    with peak_of(start) as peak:
        clock = [time.process_time()]
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        clock.append(time.process_time())
        loss.backward()
        clock.append(time.process_time())
    rest = clock[1] - clock[0] - network.seconds
    return {
        "cells": count,
        "masks": kind,
        "mask_rois": len(network.output),
        "step_s": round(clock[2] - clock[0], 2),
        "not_network_s": round(rest, 3),
        "not_network_percent": round(100 * rest / (clock[2] - clock[0]), 1),
        "peak_mb": round(peak.mb),
        "loss": round(loss.item(), 4),
    }


def main() -> None:
    """Measure all cases and print a JSON line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=SAMPLES)
    parser.add_argument(
        "--config", default=str(ROOT / "configs" / "cell" / "maskrcnn_r50.py")
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--cells", type=int, nargs="+", default=[50, 200, 400, 800])
    parser.add_argument(
        "--masks", nargs="+", default=KINDS, choices=KINDS, help="800 bitmaps: 11 GB"
    )
    args = parser.parse_args()
    for count in args.cells:
        for kind in args.masks:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(
                    measure, (args.config, args.root, kind, count, args.side)
                )
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
