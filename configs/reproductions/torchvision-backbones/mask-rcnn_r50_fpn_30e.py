# Report 000: Mask R-CNN with one backbone after another; public score 0.22.
#
# The report does not say: the weights (ImageNet's here, as for its other backbones),
# the weight decay (its code has 1e-4), the seed of the random split, and which of the
# backbones has the score.
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_torchvision.py',
    '../_base_/datasets/cell_800-1333.py',
    '../_base_/schedules/adamw_30e.py',
    '../../_base_/runtime.py',
]

split = '{{$CELL_SPLIT:random_80-20_seed42}}'
train_dataloader = dict(dataset=dict(split=split))
val_dataloader = dict(dataset=dict(split=split))
test_dataloader = val_dataloader

# The report's figures: training and validation loss of each epoch.
custom_hooks = [*_base_.custom_hooks, dict(type='ValidationLossHook')]

report = [
    dict(
        number='000', table='loss curves, last epoch', row='Resnet50',
        train_loss=1.48, validation_loss=1.58),
]
