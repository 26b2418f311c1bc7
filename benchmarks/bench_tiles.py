r"""A slide from its file to tables and overlay: what all but the network costs.

Example::

    python benchmarks/bench_tiles.py                        # a cheap stub network
    python benchmarks/bench_tiles.py --sides 60000 --pitch 120
    python benchmarks/bench_tiles.py --sides 12000 --pitch 120 --strip
    python benchmarks/bench_tiles.py --sides 2000 \\
        --config configs/demo/maskrcnn_r18-slim.py --checkpoint CHECKPOINT

Each side of --sides is one square pyramid in JPEG tiles of 512² with a drawn cell in
each square of --pitch pixels; with --strip it is one uncompressed strip, as
tifffile.imwrite makes it. It is read, predicted tile by tile, merged, measured and
written as tools/predict.py does, in a process of its own; times are processor seconds.
The stub network thresholds its tile and cuts 28x28 masks out of it; its time is a
column of its own. `right` is the share of the drawn cells that came out once and whole
(box IoU above 0.8), `peak_mb` the resident memory above the start.
"""

from __future__ import annotations

from common import peak_of

# isort: split
import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch

from custom.inference import Segmenter
from custom.inference.trained_model import TrainedModel, read_model
from custom.structures import RoIMasks
from custom.workbench.predict.outputs import write_files

FILE_TILE = 512
KINDS = ("geojson", "csv", "overlay")


def cells(side: int, pitch: int) -> np.ndarray:
    """(N, 3) x, y and radius of the cells that are drawn."""
    count = side // pitch
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(count), np.arange(count))
    radius = rng.integers(6, 16, count * count)
    shift = rng.integers(-3, 4, (count * count, 2))
    center = np.stack([x.ravel(), y.ravel()], axis=1) * pitch + pitch // 2 + shift
    return np.concatenate([center, radius[:, None]], axis=1)


def write_strip(path: Path, side: int, pitch: int) -> None:
    """Write an image as one strip without compression, without ever holding it."""
    image = tifffile.memmap(
        path, shape=(side, side, 3), dtype=np.uint8, photometric="rgb"
    )
    image[:] = 230
    for x, y, radius in cells(side, pitch).tolist():
        part = np.ascontiguousarray(image[y - 20 : y + 21, x - 20 : x + 21])
        cv2.circle(part, (20, 20), radius, (90, 60, 140), -1)
        image[y - 20 : y + 21, x - 20 : x + 21] = part
    image.flush()


def write_pyramid(path: Path, side: int, pitch: int) -> None:
    """Write the pyramid without ever holding it."""
    drawn = cells(side, pitch)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step in (1, 4, 16, 64):
            size = side // step

            def tiles(step=step, size=size):
                span = FILE_TILE * step
                for y in range(0, size * step, span):
                    rows = drawn[np.abs(drawn[:, 1] - y - span / 2) < span / 2 + 16]
                    for x in range(0, size * step, span):
                        tile = np.full((FILE_TILE, FILE_TILE, 3), 230, np.uint8)
                        near = np.abs(rows[:, 0] - x - span / 2) < span / 2 + 16
                        for cx, cy, radius in rows[near].tolist():
                            place = (cx - x) // step, (cy - y) // step
                            cv2.circle(tile, place, radius // step, (90, 60, 140), -1)
                        yield tile

            file.write(
                tiles(),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(FILE_TILE, FILE_TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(step > 1),
                resolution=(4e4 / step, 4e4 / step),
                resolutionunit="CENTIMETER",
            )


class Timed:
    """A network whose time is measured.

    Args:
        network: It.
    """

    classes, palette, tile, max_value = ("cell",), ((0, 158, 115),), None, 65_535
    mpp, channel_order, info = 0.25, None, {"digest": "stub"}

    def __init__(self, network) -> None:
        self.network, self.seconds = network, 0.0
        for name in ("classes", "palette", "info"):
            setattr(self, name, getattr(network, name, getattr(self, name)))

    def __call__(self, tiles):
        """Predict tiles."""
        start = time.process_time()
        detections = list(self.network(tiles))
        self.seconds += time.process_time() - start
        return detections


def stub(tiles: list[np.ndarray]):
    """A stub network that detects dark pixels."""
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


def share_right(boxes: np.ndarray, side: int, pitch: int) -> float:
    """The share of drawn cells with exactly one box whose centre is theirs and fits."""
    drawn = cells(side, pitch)
    count = side // pitch
    place = ((boxes[:, :2] + boxes[:, 2:]) / 2 // pitch).astype(int).clip(0, count - 1)
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


def run(side: int, args: argparse.Namespace) -> dict:
    """Predict an image and write its files; the processor seconds of each step."""
    torch.set_num_threads(1)
    network = stub
    if args.config:
        network = TrainedModel(read_model(args.config, args.checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slide.tif")
        write = write_strip if args.strip else write_pyramid
        write(path, side, args.pitch)
        timed = Timed(network)
        segmenter = Segmenter(timed, tile=args.tile, overlap=args.overlap)
        with peak_of() as peak:
            steps, clock = {}, [time.process_time()]

            def step(name: str) -> None:
                clock.append(time.process_time())
                steps[name] = clock[-1] - clock[-2]

            scene = segmenter.open(path)
            step("open")
            strips = [segmenter.strip(scene, row) for row in range(scene.rows)]
            step("read")
            steps["network"], steps["read"] = (
                timed.seconds,
                steps["read"] - timed.seconds,
            )
            result = segmenter.finish(scene, strips)
            step("merge")
            for kind in KINDS:
                write_files(kind, result, Path(folder, "out"))
                step(kind)
    rest = sum(steps.values()) - steps["network"]
    return {
        "case": f"{side}x{side}",
        "cells": len(cells(side, args.pitch)),
        "found": len(result),
        "right": round(share_right(result.boxes, side, args.pitch), 4),
        **{f"{name}_s": round(seconds, 2) for name, seconds in steps.items()},
        "ms_per_megapixel_but_network": round(rest / side**2 * 1e9, 1),
        "ms_per_cell_but_network": round(rest / max(len(result), 1) * 1e3, 3),
        "peak_mb": round(peak.mb, 1),
    }


def main() -> None:
    """Measure each image in a process of its own and print a JSON line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--pitch", type=int, default=60)
    parser.add_argument("--tile", type=int, default=768)
    parser.add_argument("--overlap", type=int, default=96)
    parser.add_argument("--strip", action="store_true", help="instead of a pyramid")
    parser.add_argument("--config", help="a network instead of the stub")
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    for side in args.sides:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(json.dumps(pool.apply(run, (side, args))), flush=True)


if __name__ == "__main__":
    main()
