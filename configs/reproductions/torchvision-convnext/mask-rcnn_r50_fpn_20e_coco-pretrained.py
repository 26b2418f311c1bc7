# torchvision's maskrcnn_resnet50_fpn with its COCO weights instead of ConvNeXt-B.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

load_from = ('https://download.pytorch.org/models/'
             'maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth')
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
