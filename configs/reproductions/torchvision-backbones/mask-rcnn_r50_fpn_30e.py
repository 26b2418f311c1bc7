# Mask R-CNN of torchvision with ResNet-50, AdamW at a constant rate.
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_torchvision.py',
    '../_base_/datasets/cell_800-1333.py',
    '../_base_/schedules/adamw_30e.py',
    '../../_base_/runtime_course.py',
]

split = '{{$CELL_SPLIT:random_80-20_seed42}}'
train_dataloader = dict(batch_size=2, dataset=dict(split=split))
val_dataloader = dict(dataset=dict(split=split))
test_dataloader = val_dataloader

# The report draws the validation loss of each epoch; its code keeps the lowest.
custom_hooks = [*_base_.custom_hooks, dict(type='ValidationLossHook')]
default_hooks = dict(checkpoint=dict(save_best='val/loss', rule='less'))
