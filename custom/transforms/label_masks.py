"""Reading the label images of one image as instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from custom.errors import InputError
from custom.io.image import read_labels
from custom.structures import LabelMasks


def read_label_masks(
    files: Sequence[tuple[int, str]], size: tuple[int, int]
) -> tuple[LabelMasks, np.ndarray]:
    """Return the instances of one image, ordered by label and id, and their labels.

    Args:
        files: (label, path) of each class that is present; may be empty.
        size: (H, W) of the image.

    Returns:
        The instances and their (N,) int64 labels.

    Raises:
        InputError: See :func:`custom.io.image.read_labels`, or the sizes differ.
    """
    if not files:
        empty, _ = LabelMasks.from_label_images([np.zeros(size, np.int32)])
        return empty, np.zeros(0, np.int64)
    images = [read_labels(path) for _, path in files]
    for (_, path), image in zip(files, images, strict=True):
        if image.shape != tuple(size):
            raise InputError(
                path,
                f"its size (H, W) is {image.shape}, its image's is {tuple(size)}",
                "Label image and image must show the same pixels",
            )
    masks, ids = LabelMasks.from_label_images(images)
    counts = [len(class_ids) for class_ids in ids]
    return masks, np.repeat([label for label, _ in files], counts)
