# EfficientNetV2-M with ImageNet weights instead of ConvNeXt-B.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='EfficientNetV2',
        drop_path_rate=0.2,
        frozen_stages=2,  # and the stem: as with ConvNeXt, the first three layers
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://efficientnet_v2_m')),
    neck=dict(in_channels=[48, 80, 176, 512]))
