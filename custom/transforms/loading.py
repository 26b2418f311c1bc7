"""Loading of images and of their cells."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from custom.errors import InputError
from custom.io.image import read_image, read_labels
from custom.io.names import IGNORE_LABEL
from custom.structures import LabelMasks


@TRANSFORMS.register_module()
class LoadCellImage(BaseTransform):
    """Load an image in its true colours, as 8-bit BGR, which MMDetection expects.

    Reads ``img_path``; adds ``img`` (H, W, 3) uint8, ``img_shape``, ``ori_shape``.

    Args:
        max_value: The value of a 16-bit image that becomes 255, see
            :func:`custom.io.image.read_image`.
        channel_order: How the files store colours: ``'rgb'``, or ``'bgr'`` for files
            with red and blue exchanged, as the released data of the task. None reads
            like ``'rgb'``, and the data set does not check the colours: for other
            stains than H&E, and for configs of runs that predate this option.
    """

    def __init__(
        self, max_value: int = 65_535, channel_order: str | None = None
    ) -> None:
        if channel_order not in ("rgb", "bgr", None):
            raise InputError(
                "channel_order", f"{channel_order!r} is unknown", "Use 'rgb' or 'bgr'"
            )
        self.channel_order, self.max_value = channel_order, max_value

    def transform(self, results: dict) -> dict:
        """Add the image to ``results``."""
        rgb = self.read(results["img_path"])
        results["img"] = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        results["img_shape"] = results["ori_shape"] = rgb.shape[:2]
        return results

    def read(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image, in its true colours."""
        image = read_image(path, self.max_value)
        exchanged = self.channel_order == "bgr"
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if exchanged else image


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
            from custom.structures.polygons import coco_rle  # for COCO JSON only

            instances = results["instances"]
            rles = [coco_rle(i["mask"], size) for i in instances]
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


def read_label_masks(
    files: Sequence[tuple[int, str]], size: tuple[int, int]
) -> tuple[LabelMasks, np.ndarray]:
    """The instances of one image, ordered by label and id, and their (N,) int64 labels.

    Args:
        files: (label, path) of each class that is present; may be empty.
        size: (H, W) of the image.

    Raises:
        InputError: See :func:`custom.io.image.read_labels`.
    """
    if not files:
        empty, _ = LabelMasks.from_label_images([np.zeros(size, np.int32)])
        return empty, np.zeros(0, np.int64)
    images = [read_labels(path, size) for _, path in files]
    masks, ids = LabelMasks.from_label_images(images)
    counts = [len(class_ids) for class_ids in ids]
    return masks, np.repeat([label for label, _ in files], counts)


def image_loader(dataset) -> LoadCellImage | None:
    """The step of a data set's pipeline that loads images, also inside wrappers."""
    while dataset is not None:
        pipeline = getattr(dataset, "pipeline", ())
        for step in getattr(pipeline, "transforms", pipeline):
            if isinstance(step, LoadCellImage):
                return step
        dataset = getattr(dataset, "dataset", None)
    return None
