"""RoIAlign of instances of label images, from a window around each box."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.ops import roi_align
from torch import Tensor

from custom.structures.box_masks import chunks


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
        out_shape: (h, w) of the result, (K, h, w) float32.
    """
    limit = np.array(planes.shape[1:])
    # The pixels around the first and the last sample point, (K, 2) along y and x.
    first = (boxes[:, :2].flip(1) - 0.5).floor().long()
    extent = (boxes[:, 2:].flip(1) - 0.5).floor().long() + 2 - first
    order = extent.amax(1).argsort()
    sizes = np.clip(extent[order].cpu().numpy(), 1, limit)
    result = boxes.new_empty((len(boxes), *out_shape))
    for start, stop in chunks(sizes, len(sizes)):
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
