"""Copy-paste of instances between dense images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks


@TRANSFORMS.register_module()
class LabelCopyPaste(CopyPaste):
    """:class:`mmdet.CopyPaste` for :class:`LabelMasks`, at the cost of the pixels.

    The options, the random draws and the result are the stock transform's (Ghiasi et
    al., Simple Copy-Paste is a Strong Data Augmentation Method, 2021), with four
    differences: regions to ignore are never pasted; the image keeps its dtype, where
    the stock one becomes int64; the source is never one beyond the last image, which
    the stock draw allows; and the images may have different sizes. Then the source lies
    at a random place of the destination, and only instances that are whole in both are
    pasted.

    Args:
        class_weights: The weight of each class when instances are drawn from the
            source: an instance of weight 2 comes first twice as often as one of weight
            1, one of weight 0 never. None, as in the stock transform, weighs all alike.
        **kwargs: The stock transform's options.
    """

    def __init__(self, class_weights: Sequence[float] | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.class_weights = None
        if class_weights is not None:
            self.class_weights = np.array(class_weights, float)

    @cache_randomness
    def get_indexes(self, dataset) -> int:
        """The index of the source."""
        return np.random.randint(len(dataset))

    def transform(self, results: dict) -> dict:
        """Paste instances of ``mix_results`` into the image."""
        size, sources = results["img"].shape[:2], []
        for source in results["mix_results"]:
            source = _pick(dict(source), ~source["gt_ignore_flags"])
            same = source["img"].shape[:2] == size
            sources.append(source if same else self._fit(source, size))
        results["mix_results"] = sources
        return super().transform(results)

    def _select_object(self, results: dict) -> dict:
        """Keep some instances of the source."""
        if self.class_weights is None:
            return super()._select_object(results)
        weights = self.class_weights[results["gt_bboxes_labels"]]
        return _pick(results, self._draw_instances(weights))

    @cache_randomness
    def _draw_instances(self, weights: np.ndarray) -> np.ndarray:
        """Numbers of instances, as many as the stock transform would draw."""
        candidates = np.flatnonzero(weights)
        count = np.random.randint(min(len(candidates) + 1, self.max_num_pasted))
        if count == 0:
            return candidates[:0]
        share = weights[candidates] / weights.sum()
        return np.random.choice(candidates, count, replace=False, p=share)

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        """Paste the instances of ``src_results`` into ``dst_results``."""
        dst, src = dst_results["gt_masks"], src_results["gt_masks"]
        if len(src) == 0:
            return dst_results
        src = src.renumber()
        pasted = np.any(src.planes > 0, axis=0)
        left = LabelMasks(np.where(pasted, 0, dst.planes), dst.plane_of, dst.ids)

        before = dst_results["gt_bboxes"]
        boxes = left.get_bboxes(type(before))
        moved = (boxes.tensor - before.tensor).abs() <= self.bbox_occluded_thr
        keep = moved.all(dim=-1).numpy() | (left.areas > self.mask_occluded_thr)

        def join(key: str) -> np.ndarray:
            return np.concatenate([dst_results[key][keep], src_results[key]])

        dst_results["img"] = np.where(
            pasted[:, :, None], src_results["img"], dst_results["img"]
        )
        dst_results["gt_bboxes"] = before.cat([boxes[keep], src_results["gt_bboxes"]])
        dst_results["gt_bboxes_labels"] = join("gt_bboxes_labels")
        dst_results["gt_ignore_flags"] = join("gt_ignore_flags")
        dst_results["gt_masks"] = _lay_over(left[keep].renumber(), src)
        return dst_results

    @cache_randomness
    def _draw_shift(
        self, size: tuple[int, int], wanted: tuple[int, int]
    ) -> tuple[int, int]:
        """Where (y, x) an (H, W) lies in another; negative where it is larger."""
        room = np.subtract(wanted, size)
        low, high = np.minimum(room, 0), np.maximum(room, 0)
        y, x = np.random.randint(low, high + 1)
        return int(y), int(x)

    def _fit(self, results: dict, size: tuple[int, int]) -> dict:
        """The source at a random place of (H, W) ``size``; the rest is zero."""
        height, width = results["img"].shape[:2]
        y, x = self._draw_shift((height, width), size)
        top, left = max(-y, 0), max(-x, 0)
        bottom, right = min(size[0] - y, height), min(size[1] - x, width)
        boxes = results["gt_masks"].boxes()
        whole = (boxes[:, :2] >= (left, top)) & (boxes[:, 2:] <= (right, bottom))
        results = _pick(dict(results), whole.all(axis=1))
        y, x = max(y, 0), max(x, 0)
        window = results["img"][top:bottom, left:right]
        image = np.zeros((*size, 3), window.dtype)
        image[y : y + bottom - top, x : x + right - left] = window
        masks = results["gt_masks"].crop(np.array([left, top, right, bottom]))
        masks = masks.expand(*size, y, x)
        boxes = masks.get_bboxes(type(results["gt_bboxes"]))
        return {**results, "img": image, "gt_masks": masks, "gt_bboxes": boxes}


def _pick(results: dict, selected: np.ndarray) -> dict:
    """Keep some instances, given by number or by a flag for each."""
    for key in ("gt_bboxes", "gt_bboxes_labels", "gt_masks", "gt_ignore_flags"):
        if key in results:
            results[key] = results[key][selected]
    return results


def _lay_over(below: LabelMasks, above: LabelMasks) -> LabelMasks:
    """Join masks that share no pixel in as few planes as they have."""
    first = len(below)
    planes = np.zeros(
        (max(len(below.planes), len(above.planes)), *below.planes.shape[1:]), np.int32
    )
    planes[: len(below.planes)] = below.planes
    pasted = above.planes > 0
    planes[: len(above.planes)][pasted] = above.planes[pasted] + first
    return LabelMasks(
        planes,
        np.concatenate([below.plane_of, above.plane_of]),
        np.concatenate([below.ids, above.ids + first]),
    )
