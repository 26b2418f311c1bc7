# Ablation: Hybrid Task Cascade (arXiv 1901.07518) instead of Mask R-CNN, without its
# semantic branch, which needs labels of every pixel.
_base_ = './cascade-mask-rcnn_r50.py'

mask_head = dict(
    _base_.model.roi_head.mask_head, type='RoIHTCMaskHead', with_conv_res=True)
model = dict(
    type='HybridTaskCascade',
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        # The first head lacks a predecessor.
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head]))
