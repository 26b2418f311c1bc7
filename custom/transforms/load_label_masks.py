"""Loading of ground truth."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from custom.io.names import IGNORE_LABEL
from custom.structures import LabelMasks
from custom.transforms.label_masks import read_label_masks


@TRANSFORMS.register_module()
class LoadLabelMasks(BaseTransform):
    """Load the instances of an image as :class:`custom.structures.LabelMasks`.

    Reads ``label_files``, a list of (label, path of a label image), or the
    ``instances`` of a COCO JSON (RLE or polygons, as :class:`mmdet.CocoDataset` gives
    them). Adds ``gt_masks``, ``gt_bboxes`` (tight), ``gt_bboxes_labels`` (N,) int64
    and ``gt_ignore_flags`` (N,) bool, which is set for label -1; ``PackDetInputs``
    puts such instances into ``ignored_instances``.
    """

    def transform(self, results: dict) -> dict:
        """Add the instances to ``results``."""
        size = (results["height"], results["width"])
        if "label_files" in results:
            masks, labels = read_label_masks(results["label_files"], size)
            ignore = labels == IGNORE_LABEL
        else:
            instances = results["instances"]
            rles = [_to_rle(i["mask"], size) for i in instances]
            masks = LabelMasks.from_rles(rles, size)
            labels = np.array([i["bbox_label"] for i in instances], np.int64)
            ignore = np.array([i["ignore_flag"] for i in instances], bool)
        results["gt_masks"] = masks
        results["gt_bboxes"] = masks.get_bboxes("hbox")
        results["gt_bboxes_labels"] = labels
        results["gt_ignore_flags"] = ignore
        return results


@TRANSFORMS.register_module()
class ToBitmapMasks(BaseTransform):
    """Turn ``gt_masks`` into the stock N full-frame bitmaps, for comparison only."""

    def transform(self, results: dict) -> dict:
        """Replace ``gt_masks``."""
        masks = results["gt_masks"]
        results["gt_masks"] = BitmapMasks(masks.to_ndarray(), masks.height, masks.width)
        return results


def _to_rle(mask: dict | list, size: tuple[int, int]) -> dict:
    """A COCO segmentation as one compressed RLE."""
    from pycocotools import mask as coco_mask

    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    if isinstance(mask["counts"], list):
        return coco_mask.frPyObjects(mask, *size)
    return mask
