"""Contours of masks, drawn into an image."""

from __future__ import annotations

import cv2
import numpy as np


def draw_contours(
    image: np.ndarray, masks, labels, palette, thickness: int = 1
) -> np.ndarray:
    """Return a copy of an image with each mask's outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: Masks of N instances with ``patches()``.
        labels: (N,) class of each instance.
        palette: RGB colour of each class.
        thickness: Of the line, in pixels.
    """
    drawn = np.ascontiguousarray(image.copy())
    for (y, x, patch), label in zip(masks.patches(), labels, strict=True):
        contours, _ = cv2.findContours(
            patch.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        color = tuple(int(c) for c in palette[int(label)])
        cv2.drawContours(drawn, contours, -1, color, thickness, offset=(x, y))
    return drawn
