# Mask R-CNN of torchvision with ResNet-101.
_base_ = './mask-rcnn_r50_fpn_30e.py'

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
