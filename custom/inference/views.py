"""Map coordinates between a network's input and the original image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from custom.structures.dihedral import DIHEDRAL, Dihedral


@dataclass(frozen=True)
class View:
    """A part of an image, resized, then turned.

    Attributes:
        size: (h, w) of the part in the resized image, before it is turned.
        scale: (x, y), pixels of the resized image per pixel of the original.
        origin: (x, y) of the part's first pixel in the resized image.
        element: How it is turned.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    origin: tuple[int, int] = (0, 0)
    element: Dihedral = DIHEDRAL["identity"]

    @classmethod
    def of(cls, metainfo: dict) -> View:
        """The view that a test pipeline has made of a whole image.

        Args:
            metainfo: ``img_shape`` and ``scale_factor`` of a data sample, and
                ``dihedral`` where :class:`RandomDihedral` has turned it.
        """
        element = DIHEDRAL[metainfo.get("dihedral", "identity")]
        height, width = metainfo["img_shape"][:2]
        scale = metainfo["scale_factor"]
        return cls(element.size(height, width), (scale[0], scale[1]), element=element)

    def to_original(self, boxes: Tensor) -> Tensor:
        """(N, 4) xyxy boxes of the view in pixels of the original image."""
        boxes = self.element.undo_boxes(boxes, self.size)
        return (boxes + boxes.new_tensor(self.origin * 2)) / self._scale(boxes)

    def from_original(self, boxes: Tensor) -> Tensor:
        """(N, 4) xyxy boxes of the original image in pixels of the view."""
        boxes = boxes * self._scale(boxes) - boxes.new_tensor(self.origin * 2)
        return self.element.boxes(boxes, self.size)

    def _scale(self, boxes: Tensor) -> Tensor:
        return boxes.new_tensor(self.scale * 2)

    def cut(
        self, image: Tensor, tile: tuple[int, int, int, int]
    ) -> tuple[Tensor, View]:
        """The part of the view that shows a tile.

        Args:
            image: (C, h, w), the pixels of this view.
            tile: (y1, x1, y2, x2) in pixels of the original image.

        Returns:
            Its pixels, cut outwards to whole ones, and the view that they are.
        """
        (height, width), (sx, sy) = self.size, self.scale
        y1, x1 = math.floor(tile[0] * sy), math.floor(tile[1] * sx)
        y2 = min(math.ceil(tile[2] * sy), height)
        x2 = min(math.ceil(tile[3] * sx), width)
        corners = image.new_tensor([[x1, y1, x2, y2]], dtype=float).cpu()
        left, top, right, bottom = self.element.boxes(corners, self.size)[0].int()
        part = replace(
            self,
            size=(y2 - y1, x2 - x1),
            origin=(self.origin[0] + x1, self.origin[1] + y1),
        )
        return image[:, top:bottom, left:right], part
