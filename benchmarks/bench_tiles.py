r"""Tiles: time per megapixel, memory of small and large images, and SAHI's slicing.

Example::

    python benchmarks/bench_tiles.py                        # a cheap stub network
    python benchmarks/bench_tiles.py --sides 2000 --sahi 2000
    python benchmarks/bench_tiles.py --sides 2000 \\
        --config configs/demo/maskrcnn_r18-slim.py --checkpoint CHECKPOINT

Each side of --sides is one square TIFF in tiles of 512², full of drawn cells, which is
read by regions, predicted tile by tile and merged. The stub network thresholds its tile
and cuts 28x28 masks out of it: what is left to measure is reading and merging. The
figures are the time and the peak of resident memory above the start, each image in a
process of its own. `right` is the share of the drawn cells that came out once and whole
(box IoU above 0.8), `found` is the number of detections.

--sahi: the same tiles and network through sahi.get_sliced_prediction, on the image in
memory, with its defaults for merging (pip install --no-deps sahi).
"""

from __future__ import annotations

from common import Case, peak_mb  # first: it sets up OpenMP and the path

# isort: split
import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from tqdm import tqdm

from custom.inference.large_image import predict_regions
from custom.inference.tiles import TileGrid
from custom.inference.trained_model import TrainedModel, read_model
from custom.io.regions import ImageRegions
from custom.structures import RoIMasks

PITCH = 40  # a cell in each square of this side: dense, and none touches another
FILE_TILE = 512


def cells(side: int) -> np.ndarray:
    """(N, 3) x, y and radius of the cells that are drawn."""
    count = side // PITCH
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(count), np.arange(count))
    radius = rng.integers(6, 16, count * count)
    shift = rng.integers(-3, 4, (count * count, 2))
    center = np.stack([x.ravel(), y.ravel()], axis=1) * PITCH + PITCH // 2 + shift
    return np.concatenate([center, radius[:, None]], axis=1)


def write_image(path: Path, side: int) -> None:
    """Write the TIFF without ever holding it."""
    drawn = cells(side)

    def tiles():
        for y in range(0, side, FILE_TILE):
            rows = drawn[np.abs(drawn[:, 1] - y - FILE_TILE / 2) < FILE_TILE / 2 + 16]
            for x in range(0, side, FILE_TILE):
                tile = np.full((FILE_TILE, FILE_TILE, 3), 230, np.uint8)
                near = np.abs(rows[:, 0] - x - FILE_TILE / 2) < FILE_TILE / 2 + 16
                for cx, cy, radius in rows[near].tolist():
                    cv2.circle(tile, (cx - x, cy - y), radius, (90, 60, 140), -1)
                yield tile

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(FILE_TILE, FILE_TILE),
        photometric="rgb",
        compression="zlib",
    )


def stub(tiles: list[np.ndarray]):
    """What a network would find that knows dark pixels."""
    for tile in tiles:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            (tile[:, :, 0] < 160).astype(np.uint8), connectivity=8
        )
        boxes = stats[1:, :4].astype(np.float32)
        probs = np.zeros((len(boxes), 28, 28), np.float32)
        for i, (x, y, w, h, _) in enumerate(stats[1:].tolist()):
            inside = (labels[y : y + h, x : x + w] == i + 1).astype(np.float32)
            probs[i] = cv2.resize(inside, (28, 28), interpolation=cv2.INTER_LINEAR)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.linspace(0.9, 0.5, len(boxes))
        masks = RoIMasks(
            torch.from_numpy(probs), torch.from_numpy(boxes), tile.shape[:2], 0.5
        )
        yield boxes, scores, np.zeros(len(boxes), np.int64), masks


def network(config: str, checkpoint: str):
    """The network of a config, as tools/predict.py runs it."""
    return TrainedModel(read_model(config, checkpoint))


def in_tiles(path: Path, predict, tile: int, overlap: int) -> np.ndarray:
    """(N, 4) boxes of what is found by regions and tiles."""
    with ImageRegions(path) as image:
        grid = TileGrid(image.size, tile, overlap)
        numbers = tqdm(range(len(grid)), unit="tile", delay=1)
        return predict_regions(image, grid, ([i] for i in numbers), predict).boxes


def by_sahi(path: Path, predict, tile: int, overlap: int) -> np.ndarray:
    """(N, 4) boxes of what SAHI's slicing finds."""
    from sahi.models.mmdet import MmdetDetectionModel
    from sahi.predict import get_sliced_prediction

    class Model(MmdetDetectionModel):
        has_mask, category_names = True, ("cell",)

        def check_dependencies(self, packages=None):
            pass

        def load_model(self):
            self.set_model(predict)

        def perform_inference(self, image):
            ((boxes, scores, labels, masks),) = predict([image])
            self._original_predictions = [
                {
                    "bboxes": boxes.tolist(),
                    "scores": scores.tolist(),
                    "labels": [0] * len(labels),
                    "masks": masks.to_rle(),
                }
            ]

    result = get_sliced_prediction(
        tifffile.imread(path),
        Model(),
        slice_height=tile,
        slice_width=tile,
        overlap_height_ratio=overlap / tile,
        overlap_width_ratio=overlap / tile,
        perform_standard_pred=False,
        verbose=0,
    )
    boxes = [p.bbox.to_xyxy() for p in result.object_prediction_list]
    return np.array(boxes, float).reshape(-1, 4)


def share_right(boxes: np.ndarray, side: int) -> float:
    """The share of drawn cells with exactly one box whose centre is theirs and fits."""
    drawn = cells(side)
    count = side // PITCH
    place = ((boxes[:, :2] + boxes[:, 2:]) / 2 // PITCH).astype(int).clip(0, count - 1)
    index = place[:, 1] * count + place[:, 0]
    x, y, radius = drawn[index].T
    truth = np.stack([x - radius, y - radius, x + radius + 1, y + radius + 1], axis=1)
    low = np.maximum(truth[:, :2], boxes[:, :2])
    high = np.minimum(truth[:, 2:], boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, truth)]
    fits = shared / (areas[0] + areas[1] - shared) > 0.8
    alone = np.bincount(index, minlength=len(drawn)) == 1
    return float((fits & alone[index]).sum() / len(drawn))


def main() -> None:
    """Measure each image and print a JSON line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument(
        "--sahi", type=int, nargs="*", default=[], help="sides for SAHI"
    )
    parser.add_argument("--tile", type=int, default=768)
    parser.add_argument("--overlap", type=int, default=192)
    parser.add_argument("--config", help="a network instead of the stub")
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    sizes = args.tile, args.overlap
    if args.sahi and importlib.util.find_spec("sahi") is None:
        print(json.dumps({"skipped": "sahi is not installed"}))
        args.sahi = []
    with tempfile.TemporaryDirectory() as folder:
        files = {s: Path(folder) / f"{s}.tif" for s in {*args.sides, *args.sahi, 800}}
        for side, path in files.items():
            write_image(path, side)

        def load():
            if args.config is None:
                return stub
            return network(args.config, args.checkpoint)

        runs = [("ours", in_tiles, side) for side in args.sides]
        runs += [("sahi", by_sahi, side) for side in args.sahi]
        # Memory first: a forked process must not inherit the threads of timing.
        peaks = []
        for name, function, side in runs:
            case = Case(
                f"{name} {side}",
                lambda side=side: (load(), files[side]),
                stock=None,
                ours=lambda data, f=function: f(data[1], data[0], *sizes),
                instances=len(cells(side)),
                warm_up=lambda data: (data[0], files[800]),
            )
            peaks.append(peak_mb(case, "ours"))
        predict = load()
        for (name, function, side), peak in zip(runs, peaks, strict=True):
            start = time.perf_counter()
            boxes = function(files[side], predict, *sizes)
            seconds = time.perf_counter() - start
            row = {
                "case": f"{name}, {side}x{side}",
                "network": args.config or "stub",
                "cells": len(cells(side)),
                "found": len(boxes),
                "right": round(share_right(boxes, side), 4),
                "s": round(seconds, 2),
                "s_per_megapixel": round(seconds / side**2 * 1e6, 4),
                "peak_mb": round(peak, 1),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
