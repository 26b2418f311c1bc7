# torchvision's Mask R-CNN v2 from COCO weights: SGD with warm-up and cosine, anchors of
# 8...128, early stopping. Row "warmUp" of the report.
_base_ = [
    '../_base_/models/mask-rcnn-v2_r50_fpn_torchvision.py',
    '../_base_/datasets/cell_800-1333.py',
    '../_base_/schedules/sgd_50e.py',
    '../../_base_/runtime_course.py',
]

load_from = ('https://download.pytorch.org/models/'
             'maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth')
# The size of an anchor is scale times stride.
model = dict(rpn_head=dict(anchor_generator=dict(scales=[2])))

split = '{{$CELL_SPLIT:random_80-20_seed63}}'
train_dataloader = dict(batch_size=4, dataset=dict(split=split))
val_dataloader = dict(dataset=dict(split=split))
test_dataloader = val_dataloader

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='EarlyStoppingHook',
        monitor='coco/segm_mAP',
        min_delta=0.0,
        patience=10),
]
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
