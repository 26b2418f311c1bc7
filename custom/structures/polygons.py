"""Polygons as pixels, and pixels as polygons.

x runs to the right and y down, in pixels. Programs do not agree on where the pixel
(row, column) lies, and on which pixels a polygon covers, so there are two rules:

* :func:`fill`, of COCO, QuPath and MATLAB: the pixel is the square from (column, row)
  to (column + 1, row + 1), and it is inside if its centre is, up to the fifth of a
  pixel to which outlines are rounded. The algorithm is that of MATLAB's ``poly2mask``
  as pycocotools has it. Two polygons that share an edge share no pixel.
* :func:`fill_with_outline`, of scikit-image: the pixel is the point (column, row), and
  points on the outline are inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from skimage.draw import polygon as draw_polygon

from custom.structures.box_masks import BoxMasks

# Both rules take longer the longer the outline is: seconds at these limits.
_MAX_LENGTH = 1 << 21
_MAX_TESTS = 1 << 33


def fill(rings: Sequence[np.ndarray], size: tuple[int, int]) -> BoxMasks:
    """The pixels of a polygon by the rule of COCO.

    Args:
        rings: The outline, then holes, each (V, 2) (x, y), closed or not.
        size: (H, W) of the image; what lies outside is cut off.

    Returns:
        One mask, empty if no pixel is inside.

    Raises:
        ValueError: A ring has fewer than 3 vertices, vertices farther outside than the
            image is long, or a length of more than 2 million pixels.
    """
    for ring in rings:
        _check(ring, size)
        if np.abs(np.diff(ring, axis=0, append=ring[:1])).sum() > _MAX_LENGTH:
            raise ValueError("an outline is longer than 2 million pixels")
    flat = [np.asarray(ring, np.float64).reshape(-1).tolist() for ring in rings]
    filled = BoxMasks.from_rles(coco_mask.frPyObjects(flat, *size), size)
    if len(filled) == 1:
        return filled
    (y1, x1, y2, x2), (top, left, mask) = filled.windows[0], filled.patch(0)
    for y, x, hole in filled[1:].patches():
        low, high = max(y, y1), min(y + hole.shape[0], y2)
        first, last = max(x, x1), min(x + hole.shape[1], x2)
        if low < high and first < last:
            inner = hole[low - y : high - y, first - x : last - x]
            mask[low - top : high - top, first - left : last - left] &= ~inner
    return BoxMasks.from_patches([(top, left, mask)], size)


def fill_with_outline(ring: np.ndarray, size: tuple[int, int]) -> BoxMasks:
    """The pixels of a polygon by the rule of ``skimage.draw.polygon``.

    Args:
        ring: (V, 2) (x, y), closed or not.
        size: (H, W) of the image; what lies outside is cut off.

    Returns:
        One mask, empty if no pixel is inside.

    Raises:
        ValueError: The ring has fewer than 3 vertices, vertices farther outside than
            the image is long, or so many that it would take seconds.
    """
    _check(ring, size)
    low = np.clip(np.floor(ring.min(axis=0)), 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(ring.max(axis=0)) + 1, 0, size[::-1]).astype(int)
    width, height = np.maximum(high - low, 0)
    if len(ring) * int(width) * int(height) > _MAX_TESTS:
        raise ValueError(f"{len(ring)} vertices around {height}x{width} pixels")
    mask = np.zeros((height, width), bool)
    if mask.size:
        x, y = (ring - low).T
        mask[draw_polygon(y, x, mask.shape)] = True
    return BoxMasks.from_patches([(int(low[1]), int(low[0]), mask)], size)


def union(parts: Sequence[BoxMasks], size: tuple[int, int]) -> BoxMasks:
    """All pixels of some masks as one mask, empty if there are none.

    Args:
        parts: Masks of one image.
        size: (H, W) of the image.
    """
    if len(parts) == 1 and len(parts[0]) == 1:
        return parts[0]
    patches = [patch for part in parts for patch in part.patches() if patch[2].size]
    if not patches:
        return BoxMasks.from_patches([(0, 0, np.zeros((0, 0), bool))], size)
    top, left = (min(patch[axis] for patch in patches) for axis in (0, 1))
    bottom, right = (
        max(patch[axis] + patch[2].shape[axis] for patch in patches) for axis in (0, 1)
    )
    mask = np.zeros((bottom - top, right - left), bool)
    for y, x, part in patches:
        y, x = y - top, x - left
        mask[y : y + part.shape[0], x : x + part.shape[1]] |= part
    return BoxMasks.from_patches([(top, left, mask)], size)


def _check(ring: np.ndarray, size: tuple[int, int]) -> None:
    if len(ring) < 3:
        raise ValueError(f"an outline of {len(ring)} vertices, fewer than 3")
    # What reaches a little over the edge is cut. These vertices belong to another
    # image, or are not numbers.
    side = max(size)
    if not ((ring >= -side) & (ring <= 2 * side)).all():
        raise ValueError("an outline with vertices far outside the image")


def trace(top: int, left: int, mask: np.ndarray) -> list[list[np.ndarray]]:
    """The polygons of a mask, along the edges of its pixels.

    :func:`fill` gives back exactly the same pixels. Polygons are valid in the sense of
    OGC Simple Features: parts that touch in a corner only are polygons of their own,
    and a hole may touch an outline or another hole in single points.

    Args:
        top: Row of the patch in the image.
        left: Column of the patch in the image.
        mask: (h, w) bool patch.

    Returns:
        For each 4-connected part its outline and then its holes, each a closed ring,
        (V, 2) int64 (x, y) of the corners; outlines run clockwise on the screen and
        holes the other way.
    """
    if (ring := _simple_ring(mask)) is not None:
        return [[ring + np.array([left, top])]]
    from scipy import ndimage  # see BoxMasks.from_label_image

    parts, _ = ndimage.label(mask)
    polygons = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        rings = _rings(parts[rows, columns] == number)
        origin = np.array([left + columns.start, top + rows.start])
        polygons.append([ring + origin for ring in rings])
    return polygons


def geometry(top: int, left: int, mask: np.ndarray) -> dict:
    """The GeoJSON geometry of a mask: a Polygon, or a MultiPolygon of its parts.

    Args:
        top: See :func:`trace`.
        left: See :func:`trace`.
        mask: See :func:`trace`.
    """
    polygons = [[ring.tolist() for ring in rings] for rings in trace(top, left, mask)]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _simple_ring(mask: np.ndarray) -> np.ndarray | None:
    """The outline of a mask of one part without holes, which most cells are.

    OpenCV's outline of the mask at twice its size passes each edge of a pixel on its
    inside: coordinate c of it belongs to the corner (c + 1) // 2. Ten times as fast as
    :func:`_rings`.

    Returns:
        As one of :func:`_rings`, or None where pixels touch in a corner only, or there
        are holes or several parts.
    """
    north_west, north_east = mask[:-1, :-1], mask[:-1, 1:]
    south_west, south_east = mask[1:, :-1], mask[1:, 1:]
    diagonal = (north_west == south_east) & (north_east == south_west)
    if (diagonal & (north_west != north_east)).any():
        return None
    twice = cv2.resize(
        mask.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
    )
    contours, _ = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) != 1:
        return None
    # OpenCV goes down first, from the upper left, and cuts inner corners: the two
    # points of a cut are one corner.
    points = contours[0][:, 0]
    ring = np.concatenate([points[:1], points[:0:-1], points[:1]]) + 1 >> 1
    distinct = (ring[1:] != ring[:-1]).any(axis=1)
    return ring[np.flatnonzero(np.append(True, distinct))].astype(np.int64)


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """Outline and holes of one 4-connected part, which is on the right of each step."""
    padded = np.pad(mask, 1)
    # The pixels around each corner (y, x) of a pixel, all (h + 1, w + 1).
    north_west, north_east = padded[:-1, :-1], padded[:-1, 1:]
    south_west, south_east = padded[1:, :-1], padded[1:, 1:]
    leaves = np.stack(
        [
            south_east & ~north_east,
            south_west & ~south_east,
            north_west & ~south_west,
            north_east & ~north_west,
        ]
    )
    columns = leaves.shape[2]
    moves = (1, columns, -1, -columns)
    steps: dict[int, list[int]] = {}
    directions, corners = np.nonzero(leaves.reshape(4, -1))
    for direction, corner in zip(directions.tolist(), corners.tolist(), strict=True):
        steps.setdefault(corner, []).append(direction)
    # Where two pixels touch in a corner, two steps leave it. Turning left keeps the
    # pixels together and makes a ring around each part of the background.
    forks = {corner for corner, options in steps.items() if len(options) == 2}
    rings = []
    while steps:
        # The first one that is left goes right and comes from above or below.
        start = next(iter(steps))
        first = direction = steps[start][0]
        corner, ring = start, []
        before = None
        while corner != start or direction != first or before is None:
            if direction != before:
                ring.append(corner)
            steps[corner].remove(direction)
            if not steps[corner]:
                del steps[corner]
            corner, before = corner + moves[direction], direction
            if corner in forks:
                direction = (before + 3) % 4
            elif corner in steps:
                direction = steps[corner][0]
            else:
                direction = first
        ring.append(start)
        y, x = np.divmod(ring, columns)
        rings.append(np.stack([x, y], axis=1))
    return rings
