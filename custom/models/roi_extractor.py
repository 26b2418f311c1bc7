"""RoI features whose boxes keep their precision under mixed precision."""

from __future__ import annotations

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Fp32RoIExtractor(SingleRoIExtractor):
    """:class:`mmdet.SingleRoIExtractor` that samples in FP32 whatever the features are.

    The stock extractor rounds the RoIs to the dtype of the features: in FP16 to steps
    of half a pixel from coordinate 512 and of a pixel from 1024, in BF16 of 4 and 8
    pixels, while targets are made from the exact boxes. mmcv's CUDA kernel does not
    take BF16 at all. Without mixed precision nothing differs from the stock extractor.
    """

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """(K, C, h, w) features, in the dtype of ``feats``, of (K, 5) RoIs.

        Args:
            feats: (B, C, H, W) of each level.
            rois: (K, 5) image number and xyxy.
            roi_scale_factor: Enlarges the RoIs about their centres.
        """
        sampled = super().forward(
            tuple(level.float() for level in feats), rois.float(), roi_scale_factor
        )
        return sampled.to(feats[0].dtype)
