# Report 001, row "3 trainable layers": the second stage is frozen too.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(backbone=dict(frozen_stages=2))

report = [
    dict(number='001', table='trainable layers', row='3', public_mAP=0.39),
]
