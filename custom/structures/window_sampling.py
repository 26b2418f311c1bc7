"""RoIAlign of instances of label images, from a window around each box."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from mmcv.ops import roi_align
from torch import Tensor

# Pixels of windows that are cut out at once, about ten bytes each.
_PIXELS_AT_ONCE = 1 << 19


def sample_boxes(
    planes: Tensor,
    plane_of: Tensor,
    ids: Tensor,
    boxes: Tensor,
    out_shape: tuple[int, int],
) -> Tensor:
    """Sample one instance in each box, see :meth:`LabelMasks.roi_align`.

    Args:
        planes: (L, H, W) int32 label images.
        plane_of: (K,) int64, the plane of each box's instance.
        ids: (K,) int64, its id.
        boxes: (K, 4) float32 xyxy, K > 0.
        out_shape: (h, w) of the result.

    Returns:
        (K, h, w) float32, on the device of the arguments.
    """
    limit = np.array(planes.shape[1:])
    # The pixels around the first and the last sample point, (K, 2) along y and x.
    first = (boxes[:, :2].flip(1) - 0.5).floor().long()
    extent = (boxes[:, 2:].flip(1) - 0.5).floor().long() + 2 - first
    order = extent.amax(1).argsort()
    sizes = np.clip(extent[order].cpu().numpy(), 1, limit)
    result = boxes.new_empty((len(boxes), *out_shape))
    for start, stop in _chunks(sizes):
        chunk, size = order[start:stop], sizes[start:stop].max(axis=0)
        # Windows end at the image's borders, so mmcv's rule for points beyond holds.
        room = (limit - size).tolist()
        top, left = (first[chunk, i].clamp(0, room[i]) for i in (0, 1))
        window = _cut(planes, plane_of[chunk], top, left, *size.tolist())
        inside = window == ids[chunk].to(planes.dtype)[:, None, None]
        local = boxes[chunk] - torch.stack([left, top, left, top], 1)
        number = torch.arange(len(local), device=local.device, dtype=local.dtype)
        rois = torch.cat([number[:, None], local], 1)
        inside = inside[:, None].float()
        sampled = roi_align(inside, rois, out_shape, 1.0, 0, "avg", True)
        result[chunk] = sampled[:, 0]
    return result


def _cut(
    planes: Tensor, plane_of: Tensor, top: Tensor, left: Tensor, height: int, width: int
) -> Tensor:
    """(K, height, width) windows of (L, H, W) planes; whole rows are copied."""
    row = (plane_of * planes.shape[1] + top)[:, None]
    row = row + torch.arange(height, device=row.device)
    first = (row * planes.shape[2] + left[:, None]).flatten()
    rows = planes.flatten().unfold(0, width, 1).index_select(0, first)
    return rows.view(-1, height, width)


def _chunks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of (K, 2) sizes whose windows fit into memory at once.

    All windows of a chunk are padded to its tallest and widest one.
    """
    start, most = 0, np.zeros(2, np.int64)
    for i, size in enumerate(sizes):
        larger = np.maximum(most, size)
        if i > start and larger.prod() * (i + 1 - start) > _PIXELS_AT_ONCE:
            yield start, i
            start, larger = i, size
        most = larger
    yield start, len(sizes)
