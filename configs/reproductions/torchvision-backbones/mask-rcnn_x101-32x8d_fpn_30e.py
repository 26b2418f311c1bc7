# Mask R-CNN of torchvision with ResNeXt-101 32x8d.
_base_ = './mask-rcnn_r50_fpn_30e.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=32,
        base_width=8,
        init_cfg=dict(checkpoint='torchvision://resnext101_32x8d')))
