"""Random erasing on label images."""

from __future__ import annotations

import numpy as np
from mmdet.datasets.transforms import RandomErasing
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks


@TRANSFORMS.register_module()
class LabelRandomErasing(RandomErasing):
    """:class:`mmdet.RandomErasing` for :class:`LabelMasks`.

    The options, the random draws and the result are the stock transform's. Masks of
    any other type go the stock way.

    Raises:
        ValueError: ``mask_border_value`` is not 0: an erased pixel would belong to
            every instance.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.mask_border_value != 0:
            raise ValueError(
                "mask_border_value must be 0 for label images, not "
                f"{self.mask_border_value}"
            )

    def _transform_masks(self, results: dict, patches: np.ndarray) -> None:
        """Erase ``patches`` (P, 4), boxes x1, y1, x2, y2, in a copy of the planes."""
        masks = results["gt_masks"]
        if not isinstance(masks, LabelMasks):
            super()._transform_masks(results, patches)
            return
        planes = masks.planes.copy()
        for x1, y1, x2, y2 in patches:
            planes[:, y1:y2, x1:x2] = 0
        results["gt_masks"] = LabelMasks(planes, masks.plane_of, masks.ids)
