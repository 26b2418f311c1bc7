"""Turning and mirroring images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type

from custom.structures.dihedral import DIHEDRAL


@TRANSFORMS.register_module()
class RandomDihedral(BaseTransform):
    """Apply one of the eight flips and rotations by right angles, exactly.

    No pixel is interpolated. Works on ``img``, ``gt_bboxes`` and ``gt_masks`` (label
    images); updates ``img_shape`` and adds ``dihedral``, the name of what was done.
    ``scale_factor`` stays that of the image before. For training all eight are
    equally likely; a view of test-time augmentation has a list of one.

    Args:
        elements: Names to choose from, see :data:`custom.structures.dihedral.DIHEDRAL`.
    """

    def __init__(self, elements: Sequence[str] = tuple(DIHEDRAL)) -> None:
        if not elements or (unknown := set(elements) - set(DIHEDRAL)):
            raise ValueError(
                f"elements are some of {', '.join(DIHEDRAL)}, not "
                f"{sorted(unknown) if elements else 'none at all'}"
            )
        self.elements = tuple(elements)

    @cache_randomness
    def _choose(self) -> str:
        return self.elements[np.random.randint(len(self.elements))]

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Turn image and instances."""
        results["dihedral"] = self._choose()
        element = DIHEDRAL[results["dihedral"]]
        size = results["img"].shape[:2]
        results["img"] = np.ascontiguousarray(element.array(results["img"]))
        results["img_shape"] = results["img"].shape[:2]
        if results.get("gt_bboxes") is not None:
            boxes = results["gt_bboxes"]
            results["gt_bboxes"] = type(boxes)(element.boxes(boxes.tensor, size))
        if results.get("gt_masks") is not None:
            results["gt_masks"] = results["gt_masks"].turn(element)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(elements={self.elements})"
