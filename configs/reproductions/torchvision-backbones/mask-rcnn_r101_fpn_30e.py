# Report 000 with ResNet-101.
_base_ = './mask-rcnn_r50_fpn_30e.py'

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))

report = [
    dict(
        number='000', table='loss curves, last epoch', row='Resnet101',
        train_loss=1.50, validation_loss=1.40),
]
