"""Overlays of dense cells."""

from __future__ import annotations

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from custom.structures.contours import draw_contours


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
