# The champion: Cascade Mask R-CNN, ConvNeXt V2-B, and what was reported to help.
# docs/champion.md says what each part is for and what has been measured.
#
#   python tools/train.py \
#       configs/cell/champion/cascade-mask-rcnn_convnextv2-b_fpn_36e.py --amp
_base_ = [
    '../ablations/cascade-mask-rcnn_r50.py',
    '../../_base_/models/backbones.py',
    '../../_base_/datasets/augmentations.py',
    '../../_base_/schedules/ema.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'custom.models.backbones'])
model = dict(
    backbone=dict(_delete_=True, **_base_.convnextv2_b),
    neck=dict(in_channels=_base_.convnextv2_b_channels),
    rpn_head=dict(anchor_generator=dict(scales=[2, 3], ratios=[1.0])))
optim_wrapper = dict(_base_.convnextv2_b_decay)

# Load, scale, crop, rotate one image; then paste cells of another, jitter, pack.
load_pipeline = [
    _base_.dihedral if step['type'] == 'RandomFlip' else step
    for step in _base_.train_pipeline if step['type'] != 'PackDetInputs'
]
train_pipeline = [
    dict(_base_.copy_paste, class_weights=_base_.class_weights),
    _base_.drop_empty_boxes,
    _base_.hed_jitter,
    _base_.pack,
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='SeededDataset',
        dataset=dict(
            type='MultiImageMixDataset',
            dataset=dict(
                _base_.train_dataloader.dataset, pipeline=load_pipeline),
            pipeline=train_pipeline)))
custom_hooks = [*_base_.custom_hooks, _base_.ema]
