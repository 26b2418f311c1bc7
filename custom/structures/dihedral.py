"""The eight ways to turn and mirror an image onto a rectangle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Dihedral(NamedTuple):
    """One of the eight elements: swap the axes first, then reverse them.

    Attributes:
        transpose: Swap rows and columns.
        vertical: Then reverse the rows (upside down).
        horizontal: Then reverse the columns (left to right).
    """

    transpose: bool = False
    vertical: bool = False
    horizontal: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the transformed image."""
        return (width, height) if self.transpose else (height, width)

    def array(self, image: np.ndarray, rows: int = 0) -> np.ndarray:
        """Apply to the axes ``rows`` and ``rows + 1``; a view, nothing is copied."""
        if self.transpose:
            image = np.swapaxes(image, rows, rows + 1)
        axes = [rows] * self.vertical + [rows + 1] * self.horizontal
        return np.flip(image, axes)

    def undo(self, maps: Tensor) -> Tensor:
        """Undo the element on the last two axes of (..., H, W) maps."""
        maps = maps.flip([-2] * self.vertical + [-1] * self.horizontal)
        return maps.transpose(-2, -1) if self.transpose else maps

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Apply to (N, 4) xyxy boxes of an image of (H, W)."""
        if self.transpose:
            boxes = boxes[:, [1, 0, 3, 2]]
        return self._reverse(boxes, self.size(*size))

    def undo_boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Undo :meth:`boxes`; ``size`` is (H, W) of the original image."""
        boxes = self._reverse(boxes, self.size(*size))
        return boxes[:, [1, 0, 3, 2]] if self.transpose else boxes

    def _reverse(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = size
        result = boxes.clone()
        if self.vertical:
            result[:, 1], result[:, 3] = height - boxes[:, 3], height - boxes[:, 1]
        if self.horizontal:
            result[:, 0], result[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
        return result


# The flips have the names of MMDetection's `flip_direction`; `rot90` is `np.rot90`,
# counter-clockwise.
DIHEDRAL = {
    "identity": Dihedral(),
    "horizontal": Dihedral(horizontal=True),
    "vertical": Dihedral(vertical=True),
    "diagonal": Dihedral(vertical=True, horizontal=True),
    "transpose": Dihedral(transpose=True),
    "rot90": Dihedral(transpose=True, vertical=True),
    "rot270": Dihedral(transpose=True, horizontal=True),
    "antitranspose": Dihedral(transpose=True, vertical=True, horizontal=True),
}
