"""Images and outlines embedded in a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from skimage.measure import approximate_polygon


def jpeg(image: np.ndarray, max_side: int, quality: int) -> bytes:
    """The bytes of a JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_side: A larger image is reduced to this side, in pixels.
        quality: 0 to 100.
    """
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()


def image_uri(image: np.ndarray, max_side: int = 1600, quality: int = 82) -> str:
    """A JPEG as a ``data:`` address, see :func:`jpeg`."""
    data = jpeg(image, max_side, quality)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def outline(patch: np.ndarray, y: int, x: int, tolerance: float = 0.75) -> str:
    """The outline of a mask as the data of an SVG path.

    Args:
        patch: (h, w) mask.
        y: Row of its first pixel in the image.
        x: Column of it.
        tolerance: The line stays this near to the boundary, in pixels
            (Douglas-Peucker).

    Returns:
        Closed polygons through the centres of the boundary's pixels, in whole pixels
        of the image: draw them moved by half a pixel. Empty for an empty mask.
    """
    contours, _ = cv2.findContours(
        np.ascontiguousarray(patch, np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
    )
    parts = []
    for contour in contours:
        points = _simplify(contour[:, 0].astype(int), tolerance)
        steps = np.diff(points, axis=0).ravel()
        # A minus sign separates as well as a space does.
        moves = " ".join(map(str, steps)).replace(" -", "-")
        start_x, start_y = points[0] + (x, y)
        parts.append(f"M{start_x} {start_y}" + (f"l{moves}" if moves else "") + "z")
    return "".join(parts)


def _simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """A closed line of fewer points.

    Not ``cv2.approxPolyDP``, which leaves the tolerance behind where a line of single
    pixels goes forth and back.
    """
    if len(points) < 4:
        return points
    # Two open lines, to the farthest point and back.
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    there = approximate_polygon(points[: far + 1], tolerance)
    back = approximate_polygon(np.vstack([points[far:], points[:1]]), tolerance)
    return np.vstack([there[:-1], back[:-1]])
