"""Assignment of anchors and proposals to cells without the anchors x cells matrix."""

from __future__ import annotations

import torch
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.models.task_modules.assigners.iou2d_calculator import BboxOverlaps2D
from mmdet.models.task_modules.assigners.max_iou_assigner import perm_repeat_bboxes
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from custom.errors import InputError

# Pairs whose overlap is computed at once; bounds the memory, not the result.
_PAIRS_AT_ONCE = 1 << 17
# Keys of the index: 10 bits for the group of like size, 24 each for row and column.
_GROUPS, _CELLS = 1 << 10, 1 << 24
# Few priors of many shapes, such as proposals, are grouped by their longer side alone:
# more candidates, but fewer look-ups.
_FEW = 1 << 14
_PRIORS_PER_ROW = 32


@TASK_UTILS.register_module()
class SparseMaxIoUAssigner(MaxIoUAssigner):
    """:class:`mmdet.MaxIoUAssigner` in time and memory that follow overlapping pairs.

    The stock assigner computes the IoU of every prior with every ground-truth box, 34
    bytes for each pair, and loops over the boxes in Python with two host syncs each.
    Nearly all of these IoUs are 0. Here only pairs that can overlap are computed, and
    the zeros are filled in. ``gt_inds``, ``max_overlaps`` and ``labels`` are equal to
    the stock assigner's to the bit for finite boxes, with all of its options.

    The host waits for a device three times, twice that with regions to ignore, however
    many boxes there are.

    Args:
        args, kwargs: The options of the stock assigner. ``gpu_assign_thr`` is ignored:
            no matrix has to move to the host.

    Raises:
        InputError: ``iou_calculator`` is not the plain ``BboxOverlaps2D``; another
            measure may be above 0 for boxes that do not overlap.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        calculator = self.iou_calculator
        if type(calculator) is not BboxOverlaps2D or calculator.dtype is not None:
            raise InputError(
                "SparseMaxIoUAssigner",
                f"it cannot use the iou_calculator {calculator!r}",
                "use dict(type='BboxOverlaps2D') or the stock MaxIoUAssigner",
            )

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign each prior to a ground-truth box, the background or nothing.

        Args:
            pred_instances: ``priors``, (A, 4) float xyxy.
            gt_instances: ``bboxes``, (N, 4) float xyxy, and ``labels``, (N,) int64.
            gt_instances_ignore: ``bboxes``, (M, 4): regions that train nothing where
                ``ignore_iof_thr`` is above 0.
            kwargs: Unused, as in the stock assigner.

        Returns:
            ``gt_inds``, (A,) int64: 0 background, -1 ignored, n + 1 for box n;
            ``max_overlaps``, (A,) float; ``labels``, (A,) int64, -1 without a box.
        """
        boxes = get_box_tensor(gt_instances.bboxes)
        priors = get_box_tensor(pred_instances.priors)[:, :4]
        if not len(boxes) or not len(priors):
            return super().assign(pred_instances, gt_instances)
        if self.perm_repeat_gt_cfg is not None:
            boxes = perm_repeat_bboxes(
                boxes, self.iou_calculator, self.perm_repeat_gt_cfg
            )
        of_box, of_prior = candidate_pairs(boxes, priors)
        ious = self._overlaps(boxes, of_box, priors, of_prior)
        # What the matrix holds where a prior and a box do not overlap.
        rest = ious.new_zeros(len(priors))
        if self.ignore_iof_thr > 0 and gt_instances_ignore is not None:
            ignored = self._ignored(priors, get_box_tensor(gt_instances_ignore.bboxes))
            rest = torch.where(ignored, -1.0, rest)
            ious = torch.where(ignored[of_prior], -1.0, ious)

        max_overlaps = rest.scatter_reduce(0, of_prior, ious, "amax")
        gt_inds = self._by_threshold(max_overlaps, of_box, of_prior, ious)
        if self.match_low_quality:
            best = self._best_matches(rest, len(boxes), of_box, of_prior, ious)
            gt_inds = torch.where(best > 0, best, gt_inds)
        labels = gt_instances.labels.long()[(gt_inds - 1).clamp(min=0)]
        return AssignResult(
            num_gts=len(boxes),
            gt_inds=gt_inds,
            max_overlaps=max_overlaps,
            labels=torch.where(gt_inds > 0, labels, -1),
        )

    def _overlaps(
        self,
        first: Tensor,
        of_first: Tensor,
        second: Tensor,
        of_second: Tensor,
        mode: str = "iou",
    ) -> Tensor:
        """(P,) overlaps of pairs of boxes, by the stock calculator."""
        parts = zip(
            of_first.split(_PAIRS_AT_ONCE), of_second.split(_PAIRS_AT_ONCE), strict=True
        )
        return torch.cat(
            [
                self.iou_calculator(
                    first.index_select(0, i),
                    second.index_select(0, j),
                    mode=mode,
                    is_aligned=True,
                )
                for i, j in parts
            ]
            or [first.new_zeros(0)]
        )

    def _ignored(self, priors: Tensor, regions: Tensor) -> Tensor:
        """(A,) bool, the priors that lie in ignore regions."""
        ignored = priors.new_zeros(len(priors), dtype=torch.bool)
        if not len(regions):
            return ignored
        of_region, of_prior = candidate_pairs(regions, priors)
        pairs = (priors, of_prior, regions, of_region)
        if not self.ignore_wrt_candidates:
            pairs = pairs[2:] + pairs[:2]
        inside = self._overlaps(*pairs, mode="iof") > self.ignore_iof_thr
        return ignored.scatter_reduce(0, of_prior, inside, "amax")

    def _by_threshold(
        self, max_overlaps: Tensor, of_box: Tensor, of_prior: Tensor, ious: Tensor
    ) -> Tensor:
        """(A,) int64 assignment to the nearest box (first of ties) by its IoU."""
        gt_inds = torch.full_like(max_overlaps, -1, dtype=torch.long)
        low = self.neg_iou_thr
        if isinstance(low, float | tuple):
            least, below = (0, low) if isinstance(low, float) else low
            negative = (max_overlaps >= least) & (max_overlaps < below)
            gt_inds = gt_inds.masked_fill(negative, 0)
        none = torch.iinfo(torch.long).max
        nearest = torch.where(ious == max_overlaps[of_prior], of_box, none)
        nearest = torch.full_like(gt_inds, none).scatter_reduce(
            0, of_prior, nearest, "amin"
        )
        # Where no box overlaps, all are equally near: the first one.
        nearest = torch.where(max_overlaps > 0, nearest, 0)
        return torch.where(max_overlaps >= self.pos_iou_thr, nearest + 1, gt_inds)

    def _best_matches(
        self,
        rest: Tensor,
        num_boxes: int,
        of_box: Tensor,
        of_prior: Tensor,
        ious: Tensor,
    ) -> Tensor:
        """(A,) int64, 1 + the last box that has the prior as its best, 0 if none has.

        A box that overlaps with no prior has all of them as its best where
        ``min_pos_iou`` is 0; so does the stock assigner.
        """
        free = rest.max()
        best = free.repeat(num_boxes).scatter_reduce(0, of_box, ious, "amax")
        number = torch.arange(1, num_boxes + 1, device=rest.device)
        number = torch.where(best >= self.min_pos_iou, number, 0)
        matches = torch.zeros_like(rest, dtype=torch.long)
        is_best = ious == best[of_box]
        if self.gt_max_assign_all:
            value = torch.where(is_best, number[of_box], 0)
            matches = matches.scatter_reduce(0, of_prior, value, "amax")
            alone = torch.where(best == free, number, 0).max()
            return torch.where(rest == free, matches.clamp(min=alone), matches)
        none = len(rest)
        prior = torch.full_like(number, none).scatter_reduce(
            0, of_box, torch.where(is_best, of_prior, none), "amin"
        )
        first = (rest == free).long().argmax()
        prior = torch.where(best == free, first, prior)
        return matches.scatter_reduce(0, prior, number, "amax")


def candidate_pairs(boxes: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of a box and a prior that overlap, and few that do not.

    Priors of like size form a group. Within a group they are sorted into rows, at least
    a quarter of its height, by their upper border, and in a row by their left border,
    so the priors that a box can reach are one piece of each row that it can reach. No
    grid of anchors is assumed; those of a feature level make a group for each shape.

    Args:
        boxes: (N, 4) finite float xyxy.
        priors: (A, 4) finite float xyxy.

    Returns:
        Two (P,) int64 tensors, the boxes in ascending order, and the priors.
    """
    boxes, priors = boxes.float(), priors.float()
    extent = (priors[:, 2:] - priors[:, :2]).clamp(min=1)
    size = extent.log2().ceil().long().clamp(max=31)
    if len(priors) < _FEW:
        size = size.amax(1, keepdim=True)
    group = size[:, 0] * 32 + size[:, -1]
    largest = extent.new_zeros(_GROUPS, 2).scatter_reduce(
        0, group[:, None].expand(-1, 2), extent, "amax"
    )
    # Priors that are far apart fill few rows: higher ones cost fewer look-ups.
    span = priors[:, 1].max() - priors[:, 1].min()
    count = extent.new_zeros(_GROUPS).scatter_add(0, group, extent.new_ones(len(group)))
    step = torch.maximum(
        (largest[:, 1] / 4).clamp(min=4), span * _PRIORS_PER_ROW / count
    )
    key = _key(group, _cell(priors[:, 1] / step[group]), priors[:, 0])
    key, order = key.sort()

    groups = largest[:, 0].nonzero()[:, 0]
    width, height = largest[groups].unbind(1)
    # A little more than the width, because the differences of borders are rounded.
    left = boxes[:, 0, None] - width * (1 + 1 / 64)
    top = boxes[:, 1, None] - height * (1 + 1 / 64)
    first = _cell(top / step[groups])
    rows = _cell(boxes[:, 3, None] / step[groups]) - first + 1
    # Of the first row of each box and group; the next row's keys are _CELLS higher.
    low = _key(groups, first, left).flatten()
    high = _key(groups, first, boxes[:, 2, None]).flatten()
    query, nth = _expand(rows.flatten())
    start = torch.searchsorted(key, low[query] + nth * _CELLS)
    stop = torch.searchsorted(key, high[query] + nth * _CELLS, right=True)
    of_box = query // len(groups)
    piece, nth = _expand(stop - start)
    return of_box[piece], order[start[piece] + nth]


def _cell(position: Tensor) -> Tensor:
    """The whole number below, in half of the range that a key has for it."""
    limit = _CELLS // 2 - 1
    return position.floor().clamp(-limit, limit).long()


def _key(group: Tensor, row: Tensor, left: Tensor) -> Tensor:
    """(K,) int64 that sorts by group, row and left border."""
    half = _CELLS // 2
    return (group * _CELLS + row + half) * _CELLS + _cell(left) + half


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (2, 0, 3): owners (0, 0, 2, 2, 2) and numbers (0, 1, 0, 1, 2)."""
    counts = counts.clamp(min=0)
    owner = torch.repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - first[owner]
