"""Albumentations on label images."""

from __future__ import annotations

import cv2
import numpy as np
from mmdet.datasets.transforms import Albu
from mmdet.registry import TRANSFORMS

from custom.structures import LabelMasks

_NEAREST = (None, cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)


@TRANSFORMS.register_module()
class LabelAlbu(Albu):
    """:class:`mmdet.Albu` for :class:`LabelMasks`: planes instead of N bitmaps.

    The options are the stock transform's. Masks are sampled at the nearest pixel, the
    default of albumentations, so that flips, crops, turns by right angles and resizing
    equal the stock ones; the ids in the planes tell afterwards which instance is which.
    Two things that stop the stock transform work here: a change of the image's size
    without ``filter_lost_elements``, and an image that has lost all its instances.

    Raises:
        ValueError: The transforms would write other values than ids into the planes.
    """

    def __init__(self, transforms: list[dict], *args, **kwargs) -> None:
        for transform in transforms:
            _check(transform)
        super().__init__(transforms, *args, **kwargs)

    def transform(self, results: dict) -> dict | None:
        """Augment, with numbers that follow NumPy's generator.

        albumentations has generators of its own, which the system seeds.
        """
        self.aug.set_random_seed(np.random.randint(2**31))
        return super().transform(results)

    def _preprocess_results(self, results: dict) -> tuple[dict, LabelMasks | None]:
        """``results`` as albumentations takes them, and the masks as they were."""
        masks = results.get("masks")
        if not isinstance(masks, LabelMasks):
            return super()._preprocess_results(results)
        del results["masks"]
        results, _ = super()._preprocess_results(results)
        masks = masks.renumber()
        # OpenCV warps no int32; float32 holds every number up to 2^24 exactly.
        results["masks"] = [plane.astype(np.float32) for plane in masks.planes]
        return results, masks

    def _postprocess_results(self, results: dict, ori_masks=None) -> dict | None:
        """``results`` as MMDetection takes them, None for an image to be skipped."""
        if not isinstance(ori_masks, LabelMasks):
            return super()._postprocess_results(results, ori_masks)
        planes = np.stack(results.pop("masks")).astype(np.int32)
        masks = LabelMasks(planes, ori_masks.plane_of, ori_masks.ids)
        filtered = self.filter_lost_elements and "bboxes" in results
        fields = self.origin_label_fields if filtered else []
        dtypes = {field: np.asarray(results[field]).dtype for field in fields}
        results = super()._postprocess_results(results)
        if results is None:
            return None
        for field, dtype in dtypes.items():
            results[field] = results[field].astype(dtype)
        if filtered:
            masks = masks[np.asarray(results["idx_mapper"], np.int64)]
        results["masks"] = masks
        return results


def _check(transform: dict) -> None:
    """Refuse what would mix ids or make new ones."""
    for inner in transform.get("transforms", []):
        _check(inner)
    wrong = [
        f"{option}={transform[option]!r}"
        for option in ("fill_mask", "mask_drop_value")
        if np.any(transform.get(option))
    ]
    if transform.get("mask_interpolation") not in _NEAREST:
        wrong.append(f"mask_interpolation={transform['mask_interpolation']!r}")
    if transform.get("type") == "Morphological":
        wrong.append("growing and shrinking of masks")
    if wrong:
        raise ValueError(
            f"{transform.get('type')}: {', '.join(wrong)} cannot be done on label "
            "images; masks are sampled at the nearest pixel and filled with 0"
        )
