# Report 001, row "ResNet-50": Mask R-CNN R50-FPN from COCO weights.
#
# MMDetection's COCO checkpoint of the same model stands for torchvision's: mask AP 34.7
# on COCO, against 34.6.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

load_from = ('https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
             'mask_rcnn_r50_fpn_1x_coco/'
             'mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth')
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True),
    neck=dict(in_channels=[256, 512, 1024, 2048]))

report = [
    dict(number='001', table='backbones', row='ResNet-50', public_mAP=0.33),
]
