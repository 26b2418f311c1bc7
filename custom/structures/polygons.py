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
        _check_length(ring, size)
    flat = [np.asarray(ring, np.float64).reshape(-1).tolist() for ring in rings]
    filled = BoxMasks.from_rles(coco_mask.frPyObjects(flat, *size), size)
    if len(filled) == 1:
        return filled
    top, left, mask = filled.patch(0)
    moved = ((y - top, x - left, hole) for y, x, hole in filled[1:].patches())
    holes = BoxMasks.from_patches(moved, mask.shape).paint() > 0
    return BoxMasks.from_patches([(top, left, mask & ~holes)], size)


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
    """All pixels of some :func:`fill` of an image of (H, W) ``size``, as one mask."""
    if not parts:
        return BoxMasks.from_patches([(0, 0, np.zeros((0, 0), bool))], size)
    if len(parts) == 1:
        return parts[0]
    rles = [part.to_rle()[0] for part in parts]
    return BoxMasks.from_rles([coco_mask.merge(rles)], size)


def coco_rle(segmentation: dict | list, size: tuple[int, int]) -> dict:
    """The compressed RLE of a COCO ``segmentation``.

    Args:
        segmentation: RLE, compressed or as a list of counts; or the polygons of the
            parts, each a list x, y, x, y, ..., filled by the rule of :func:`fill`.
        size: (H, W) of the image.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: It is none of these, or is of
            another image. The counts of compressed RLE are not looked at.
    """
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != tuple(size):
            raise ValueError(f"its size is {segmentation['size']}, not {size}")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            runs = np.array(counts)
            # pycocotools writes out of bounds on such counts.
            if (
                runs.dtype.kind != "i"
                or (runs < 0).any()
                or runs.sum() != np.prod(size)
            ):
                raise ValueError("the RLE counts do not fill the image")
            return coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
        text = counts.encode("ascii") if isinstance(counts, str) else counts
        return {"size": list(size), "counts": text}
    parts = []
    for polygon in segmentation:
        ring = np.array(polygon)
        if ring.dtype.kind not in "iuf" or ring.ndim != 1 or len(ring) % 2:
            raise ValueError("a polygon is not a list of x, y, x, y, ...")
        _check_length(ring.reshape(-1, 2), size)
        parts.append(ring.astype(np.float64).tolist())
    return coco_mask.merge(coco_mask.frPyObjects(parts, *size))


def _check(ring: np.ndarray, size: tuple[int, int]) -> None:
    if len(ring) < 3:
        raise ValueError(f"an outline of {len(ring)} vertices, fewer than 3")
    # What reaches a little over the edge is cut. These vertices belong to another
    # image, or are not numbers.
    side = max(size)
    if not ((ring >= -side) & (ring <= 2 * side)).all():
        raise ValueError("an outline with vertices far outside the image")


def _check_length(ring: np.ndarray, size: tuple[int, int]) -> None:
    _check(ring, size)
    if np.abs(np.diff(ring, axis=0, append=ring[:1])).sum() > _MAX_LENGTH:
        raise ValueError("an outline is longer than 2 million pixels")


def trace(top: int, left: int, mask: np.ndarray) -> list[list[np.ndarray]]:
    """The polygons of a mask, along the edges of its pixels.

    :func:`fill` gives back exactly the same pixels. Polygons are valid in the sense of
    OGC Simple Features: parts that touch in a corner only are polygons of their own,
    and a hole may touch an outline or another hole in single points.

    Args:
        top: Row of the first pixel in the image.
        left: Column of the first pixel.
        mask: (h, w) bool.

    Returns:
        For each 4-connected part its outline and then its holes, each a closed ring,
        (V, 2) int64 (x, y) of the corners; outlines run clockwise on the screen and
        holes the other way.
    """
    polygons, origin = [], np.array([left - 1, top - 1])
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    for number in range(1, count):
        # The background of one part: around it, and in each of its holes.
        background = (parts != number).view(np.uint8)
        background = cv2.copyMakeBorder(
            background, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1
        )
        places, place = cv2.connectedComponents(background, connectivity=4)
        outside = place[0, 0]
        rings = [_ring(place != outside)]
        rings += [_ring(place == n)[::-1] for n in range(1, places) if n != outside]
        polygons.append([ring + origin for ring in rings])
    return polygons


def geometry(top: int, left: int, mask: np.ndarray) -> dict:
    """The GeoJSON geometry of :func:`trace`: a Polygon, or a MultiPolygon of parts."""
    polygons = [[ring.tolist() for ring in rings] for rings in trace(top, left, mask)]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _ring(region: np.ndarray) -> np.ndarray:
    """The outline of a 4-connected region without holes, clockwise on the screen.

    OpenCV's contour of the region at twice its size passes each edge of a pixel on its
    inside: coordinate c of it belongs to the corner (c + 1) // 2. No two pixels of such
    a region touch in a corner only, because a hole would lie between them.
    """
    twice = cv2.resize(
        region.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
    )
    contours, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # OpenCV goes down first, from the upper left, and cuts inner corners: the two
    # points of a cut are one corner.
    points = contours[0][:, 0]
    ring = np.concatenate([points[:1], points[:0:-1], points[:1]]) + 1 >> 1
    distinct = (ring[1:] != ring[:-1]).any(axis=1)
    return ring[np.flatnonzero(np.append(True, distinct))].astype(np.int64)
