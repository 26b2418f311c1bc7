"""A network for tests that finds the cells which are drawn into its pixels."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from custom.structures import RoIMasks

CLASSES = ("round", "square one")
PALETTE = ((0, 158, 115), (230, 159, 0))
BACKGROUND = (240, 230, 240)


class DrawnNetwork:
    """Finds each connected part by its blue, 1 to 200: the class is ``blue % 2``.

    The score is ``blue / 200``. Masks are the drawn pixels, up to the 28x28 patch.
    """

    classes, palette, tile, max_value = CLASSES, PALETTE, None, 65_535
    mpp, channel_order = None, None

    def __init__(self):
        self.info = {"digest": "drawn"}
        self.seen = []  # the sizes of the tiles

    def __call__(self, tiles):
        for tile in tiles:
            self.seen.append(tile.shape[:2])
            yield find(tile)


def find(tile):
    """(boxes, scores, labels, masks) of a tile."""
    parts, count = ndimage.label(tile[:, :, 2] <= 200)
    boxes = np.zeros((count, 4), np.float32)
    probs = np.zeros((count, 28, 28), np.float32)
    blue = np.zeros(count, np.int64)
    for i, (rows, columns) in enumerate(ndimage.find_objects(parts)):
        boxes[i] = columns.start, rows.start, columns.stop, rows.stop
        inside = torch.from_numpy((parts[rows, columns] == i + 1).astype(np.float32))
        probs[i] = torch.nn.functional.interpolate(
            inside[None, None], (28, 28), mode="bilinear"
        )[0, 0]
        blue[i] = tile[rows, columns, 2][inside.numpy() > 0][0]
    masks = RoIMasks(
        torch.from_numpy(probs), torch.from_numpy(boxes), tile.shape[:2], 0.5
    )
    return boxes, blue / 200, blue % 2, masks


def draw_cells(size, centers, radius=7, blues=None):
    """(H, W, 3) uint8 with discs (odd numbers: squares) at (y, x) centres."""
    image = np.full((*size, 3), BACKGROUND, np.uint8)
    yy, xx = np.mgrid[: size[0], : size[1]]
    for i, (y, x) in enumerate(centers):
        inside = (yy - y) ** 2 + (xx - x) ** 2 <= radius**2
        if i % 2:
            inside = (abs(yy - y) <= radius) & (abs(xx - x) <= radius)
        image[inside] = 90, 60, (120 + i % 80) if blues is None else blues[i]
    return image
