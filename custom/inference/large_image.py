"""Prediction of an image that is read tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from custom.inference.tiles import Detections, TileGrid, TileMerger
from custom.io.pixels import Pixels
from custom.structures import RoIMasks

# (N, 4) boxes, (N,) scores, (N,) labels and N masks in the frame of one tile.
Found = tuple[np.ndarray, np.ndarray, np.ndarray, RoIMasks]


def predict_regions(
    image: Pixels,
    grid: TileGrid,
    batches: Iterable[Sequence[int]],
    predict: Callable[[list[np.ndarray]], Iterable[Found]],
) -> Detections:
    """Read, predict and merge the tiles of an image.

    Beside what ``predict`` takes, memory holds the tiles of a batch, the last strips
    or tiles of the file, and what was found: see :class:`TileMerger`.

    Args:
        image: The image.
        grid: Its tiles.
        batches: The numbers of the tiles, in the batches that ``predict`` gets.
        predict: Takes (h, w, 3) uint8 RGB tiles, gives for each what it found.
    """
    merger = TileMerger(grid)
    for batch in batches:
        tiles = [grid[index] for index in batch]
        found = predict([image.read(*tile) for tile in tiles])
        for index, (y, x, _, _), (boxes, scores, labels, masks) in zip(
            batch, tiles, found, strict=True
        ):
            if len(scores):
                boxes = boxes + np.array([x, y, x, y])
                masks = masks.shift(x, y, image.size)
                merger.add(index, boxes, scores, labels, masks)
    return merger.merge()
