"""Random flips, rotations and scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type

from custom.structures.dihedral import DIHEDRAL


@TRANSFORMS.register_module()
class RandomDihedral(BaseTransform):
    """Apply one of the eight flips and rotations by right angles, exactly.

    No pixel is interpolated. Turns ``img``, ``gt_bboxes`` and ``gt_masks`` (label
    images), updates ``img_shape`` and adds ``dihedral``, the name of the operation.
    ``scale_factor`` keeps the factors of the axes before the rotation. For training
    all eight are equally likely; a view of test-time augmentation has a list of one.

    Args:
        elements: Names to choose from, see :data:`custom.structures.dihedral.DIHEDRAL`.
    """

    def __init__(self, elements: Sequence[str] = tuple(DIHEDRAL)) -> None:
        if not elements or (unknown := set(elements) - set(DIHEDRAL)):
            raise ValueError(
                f"elements must be some of {', '.join(DIHEDRAL)}, not "
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


@TRANSFORMS.register_module()
class RandomScale(Resize):
    """Resize image, boxes and masks by a random factor.

    The stock ``RandomResize`` brings every image to about one size, which magnifies a
    region of 33 pixels thirty times. A pixel of a microscope has a known size: a factor
    changes the size of cells by at most that factor.

    Args:
        factor_range: (low, high), the factor is drawn uniformly between them.
    """

    def __init__(self, factor_range: tuple[float, float], **kwargs) -> None:
        super().__init__(scale_factor=1.0, keep_ratio=True, **kwargs)
        self.factor_range = factor_range

    @cache_randomness
    def _draw(self) -> float:
        return float(np.random.uniform(*self.factor_range))

    def transform(self, results: dict) -> dict:
        """Resize image, boxes and masks."""
        self.scale_factor = self._draw()
        return super().transform(results)
