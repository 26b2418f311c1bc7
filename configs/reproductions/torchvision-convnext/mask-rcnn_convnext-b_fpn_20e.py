# Mask R-CNN of torchvision on ConvNeXt-B with ImageNet weights, score threshold 0.5.
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_torchvision.py',
    '../_base_/datasets/cell_800-1333.py',
    '../_base_/schedules/adamw_20e.py',
    '../../_base_/runtime_course.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'custom.models.backbones'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        drop_path_rate=0.5,
        frozen_layers=3,  # of torchvision's eight: five are trained
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://convnext_base')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
    test_cfg=dict(rcnn=dict(score_thr=0.5)))

train_pipeline = [
    _base_.load_image,
    _base_.load_masks,
    _base_.resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    _base_.pack,
]
split = '{{$CELL_SPLIT:random_90-10_seed42}}'
train_dataloader = dict(
    batch_size=4, dataset=dict(split=split, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(split=split))
test_dataloader = val_dataloader
