# Report 001, row "EfficientNetV2_m".
#
# The report does not say which maps the pyramid gets: the usual ones here, of strides
# 4, 8, 16 and 32 (its code takes 2, 8, 16 and 32). "5 trainable layers" as its code
# counts them: all but the stem and the first two stages.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='EfficientNetV2',
        drop_path_rate=0.2,
        frozen_stages=2,
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://efficientnet_v2_m')),
    neck=dict(in_channels=[48, 80, 176, 512]))

report = [
    dict(number='001', table='backbones', row='EfficientNetV2_m', public_mAP=0.36),
]
