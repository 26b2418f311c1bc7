"""Predicted masks as small patches in their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from custom.errors import InputError
from custom.structures.box_masks import PatchMasks, chunks

_MASKS_AT_ONCE = 64


class RoIMasks(PatchMasks):
    """N masks as probabilities in boxes, pasted only where and when they are needed.

    Named after detectron2's ``ROIMasks``. A mask's pixels are the probabilities,
    interpolated bilinearly in the box and compared with the threshold, exactly as
    ``FCNMaskHead`` of MMDetection pastes them.

    Examples:
        A round cell and its half in an image of any size:

        >>> y, x = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
        >>> disc = ((y - 13.5) ** 2 + (x - 13.5) ** 2 < 190).float()
        >>> probs = torch.stack([disc, disc * (x < 14)])
        >>> boxes = torch.tensor([[100.0, 200, 140, 240], [300, 200, 340, 240]])
        >>> masks = RoIMasks(probs, boxes, size=(5000, 8000), threshold=0.5)
        >>> masks.areas.tolist()
        [1240, 620]
        >>> [rle["size"] for rle in masks[masks.probs.mean((1, 2)) > 0.5].to_rle()]
        [[5000, 8000]]

    Args:
        probs: (N, h, w) float32 probabilities in 0..1, 28x28 for Mask R-CNN.
        boxes: (N, 4) float32 (x1, y1, x2, y2) in pixels of the image.
        size: (H, W) of the image.
        threshold: A pixel belongs to the mask from this probability on, above 0.
    """

    def __init__(
        self, probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
    ) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the mask threshold must be in (0, 1], not {threshold}")
        self.probs, self.boxes = probs, boxes
        self.size = (int(size[0]), int(size[1]))
        self.threshold = float(threshold)

    def _like(self, probs: Tensor, boxes: Tensor) -> RoIMasks:
        return RoIMasks(probs, boxes, self.size, self.threshold)

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, index) -> RoIMasks:
        """Select instances; an int keeps the first dimension.

        Raises:
            InputError: The index is a string, as if a mask were an RLE dict.
        """
        if isinstance(index, str):
            raise InputError(
                "RoIMasks",
                "a metric of MMDetection, such as CocoMetric, takes masks as RLE",
                "Use CellCocoMetric: COCO's AP for any number of cells, and it needs "
                "no ann_file",
            )
        if not isinstance(index, slice) and np.ndim(index) == 0:
            index = [int(index)]
        return self._like(self.probs[index], self.boxes[index])

    @classmethod
    def cat(cls, masks: Sequence[RoIMasks]) -> RoIMasks:
        """Concatenate masks of one image."""
        return masks[0]._like(
            torch.cat([m.probs for m in masks]), torch.cat([m.boxes for m in masks])
        )

    def to(self, *args, **kwargs) -> RoIMasks:
        """Move to a device, see :meth:`torch.Tensor.to`."""
        return self._like(
            self.probs.to(*args, **kwargs), self.boxes.to(*args, **kwargs)
        )

    def moved(
        self,
        origin: tuple[float, float],
        size: tuple[int, int],
        step: tuple[float, float] = (1.0, 1.0),
    ) -> RoIMasks:
        """The same masks as part of another image; the probabilities stay.

        Args:
            origin: (x, y) of this image's corner in the other one.
            size: (H, W) of the other image.
            step: (x, y), pixels of the other image per pixel of this one.
        """
        boxes = self.boxes * self.boxes.new_tensor(step).repeat(2)
        boxes = boxes + self.boxes.new_tensor(origin).repeat(2)
        return RoIMasks(self.probs, boxes, size, self.threshold)

    def _windows(self) -> np.ndarray:
        """(N, 4) int64 (y1, x1, y2, x2), the pixels that a mask can touch.

        One pixel around the box, as in MMDetection's ``_do_paste_mask``.
        """
        boxes = self.boxes.detach().cpu().double().numpy()
        limit = np.array(self.size)
        low = np.clip(np.floor(boxes[:, 1::-1]) - 1, 0, limit)
        high = np.clip(np.ceil(boxes[:, :1:-1]) + 1, 0, limit)
        return np.concatenate([low, np.maximum(low, high)], axis=1).astype(np.int64)

    def stacks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """See :class:`PatchMasks`; pixels outside a mask's window are False."""
        windows = self._windows()
        extent = windows[:, 2:] - windows[:, :2]
        order = np.lexsort((extent[:, 1], extent[:, 0]))
        probs = self.probs.detach().cpu().float()
        boxes = self.boxes.detach().cpu().float()
        for start, stop in chunks(extent[order], _MASKS_AT_ONCE):
            chosen = order[start:stop]
            masks = self._paste(probs[chosen], boxes[chosen], windows[chosen])
            yield chosen, windows[chosen], masks

    def _paste(self, probs: Tensor, boxes: Tensor, windows: np.ndarray) -> np.ndarray:
        corner = torch.from_numpy(windows[:, :2])
        height, width = (windows[:, 2:] - windows[:, :2]).max(axis=0)
        if height == 0 or width == 0:
            return np.zeros((len(probs), height, width), bool)

        def axis(start: Tensor, stop: Tensor, first: Tensor, length: int) -> Tensor:
            # The arithmetic, float32 and its order, of MMDetection's _do_paste_mask.
            pixel = (first[:, None] + torch.arange(length)).float() + 0.5
            grid = (pixel - start[:, None]) / (stop - start)[:, None] * 2 - 1
            return torch.where(torch.isinf(grid), 0, grid)

        y = axis(boxes[:, 1], boxes[:, 3], corner[:, 0], int(height))
        x = axis(boxes[:, 0], boxes[:, 2], corner[:, 1], int(width))
        shape = (len(probs), int(height), int(width))
        grid = torch.stack(
            [x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3
        )
        pasted = F.grid_sample(probs[:, None], grid, align_corners=False)[:, 0]
        mask = (pasted >= self.threshold).numpy()
        rows = np.arange(height) < (windows[:, 2] - windows[:, 0])[:, None]
        columns = np.arange(width) < (windows[:, 3] - windows[:, 1])[:, None]
        mask &= rows[:, :, None]
        mask &= columns[:, None, :]
        return mask

    def patches(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (y, x, (h, w) bool mask) of each instance, in order."""
        patches: list = [None] * len(self)
        for chosen, windows, masks in self.stacks():
            for i, (y1, x1, y2, x2), mask in zip(chosen, windows, masks, strict=True):
                patches[i] = (int(y1), int(x1), mask[: y2 - y1, : x2 - x1])
        yield from patches

    @property
    def areas(self) -> np.ndarray:
        """(N,) int64 areas in pixels."""
        areas = np.zeros(len(self), np.int64)
        for chosen, _, masks in self.stacks():
            areas[chosen] = masks.sum(axis=(1, 2))
        return areas
