"""A synthetic H&E tile with its labels, so that every example runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from custom.io.image import read_image, read_labels

FOLDER = Path(__file__).parent
CLASSES = ("class1", "class2", "class3", "class4")


def sample() -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a drawn tile of 320x320 pixels at 0.25 µm and its label images.

    Returns:
        The image, (320, 320, 3) uint8 RGB, and one (320, 320) int32 label image for
        each of :data:`CLASSES`: 93 cells, whose ids continue from class to class.

    Examples:
        >>> image, labels = sample()
        >>> image.shape, [len(np.unique(label)) - 1 for label in labels]
        ((320, 320, 3), [41, 43, 4, 5])
    """
    image = read_image(FOLDER / "image.tif")
    return image, [read_labels(FOLDER / f"{name}.tif") for name in CLASSES]
