"""Contours of masks, drawn into an image."""

from __future__ import annotations

import cv2
import numpy as np


def draw_contours(
    image: np.ndarray, masks, labels, palette, thickness: int = 1, scale: float = 1.0
) -> np.ndarray:
    """Draw each mask's outline.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        masks: Masks of N instances with ``patches()``.
        labels: (N,) class of each instance.
        palette: RGB colour of each class.
        thickness: Of the line, in pixels.
        scale: Pixels of ``image`` per pixel of the masks.
    """
    drawn = np.ascontiguousarray(image.copy())
    for (y, x, patch), label in zip(masks.patches(), labels, strict=True):
        contours, _ = cv2.findContours(
            patch.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y)
        )
        if scale != 1:
            corners = [((c + 0.5) * scale - 0.5).round() for c in contours]
            contours = [c.astype(np.int32) for c in corners]
        color = tuple(int(c) for c in palette[int(label)])
        cv2.drawContours(drawn, contours, -1, color, thickness)
    return drawn
