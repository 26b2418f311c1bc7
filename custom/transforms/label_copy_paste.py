"""Copy-paste of instances between dense images."""

from __future__ import annotations

import numpy as np
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks


@TRANSFORMS.register_module()
class LabelCopyPaste(CopyPaste):
    """:class:`mmdet.CopyPaste` for :class:`LabelMasks`, at the cost of the pixels.

    The options, the random draws and the result are the stock transform's (Ghiasi et
    al., Simple Copy-Paste is a Strong Data Augmentation Method, 2021), but for one
    thing: the image keeps its dtype, where the stock one becomes int64. Masks of any
    other type go the stock way.
    """

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        """Paste the instances of ``src_results`` into ``dst_results``."""
        dst, src = self.get_gt_masks(dst_results), src_results["gt_masks"]
        if not (isinstance(dst, LabelMasks) and isinstance(src, LabelMasks)):
            return super()._copy_paste(dst_results, src_results)
        if len(src) == 0:
            return dst_results
        if dst.planes.shape[1:] != src.planes.shape[1:]:
            raise ValueError(
                f"the images have the sizes {dst.planes.shape[1:]} and "
                f"{src.planes.shape[1:]}; crop and pad them to one size before "
                "they are pasted"
            )
        src = src.renumber()
        pasted = (src.planes > 0).any(axis=0)
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
