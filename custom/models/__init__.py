"""Parts of detectors, and wrappers around them, that the stock library lacks."""

from custom.models.assigner import SparseMaxIoUAssigner
from custom.models.bf16 import BF16Hook
from custom.models.mask_head import RoIFCNMaskHead, RoIHTCMaskHead
from custom.models.roi_extractor import Fp32RoIExtractor
from custom.models.tiled_detector import TiledDetector
from custom.models.tta import MaskTTAModel
from custom.models.unpooled_resnet import UnpooledResNet
from custom.models.weights import prepare_weights

__all__ = [
    "BF16Hook",
    "Fp32RoIExtractor",
    "MaskTTAModel",
    "RoIFCNMaskHead",
    "RoIHTCMaskHead",
    "SparseMaxIoUAssigner",
    "TiledDetector",
    "UnpooledResNet",
    "prepare_weights",
]
