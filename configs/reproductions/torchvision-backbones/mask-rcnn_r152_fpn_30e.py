# Mask R-CNN of torchvision with ResNet-152.
_base_ = './mask-rcnn_r50_fpn_30e.py'

model = dict(
    backbone=dict(
        depth=152, init_cfg=dict(checkpoint='torchvision://resnet152')))
