"""Heads, backbones and wrappers that the stock library lacks."""

from .roi_fcn_mask_head import RoIFCNMaskHead

__all__ = ["RoIFCNMaskHead"]
