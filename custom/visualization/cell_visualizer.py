"""Pictures of dense cells."""

from __future__ import annotations

import cv2
import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData


@VISUALIZERS.register_module()
class CellVisualizer(DetLocalVisualizer):
    """Draws the contours of the masks in the colour of their class.

    The stock visualiser writes a label and a score on each of a thousand cells and
    makes a full bitmap for each. Here a cell is its contour, drawn in its box.
    """

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """(H, W, 3) uint8 RGB with the contours, see the base class."""
        if "masks" not in instances or not hasattr(instances.masks, "patches"):
            return super()._draw_instances(image, instances, classes, palette)
        return draw_contours(image, instances.masks, instances.labels, palette)


def draw_contours(
    image: np.ndarray, masks, labels, palette, thickness: int = 1
) -> np.ndarray:
    """Draw each mask's outline.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        masks: ``LabelMasks`` or ``RoIMasks`` of N instances.
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
