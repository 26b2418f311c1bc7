# The demo in seconds: a small network, 24 iterations, a checkpoint every 2, a validation
# every 4, an average of the weights.
_base_ = '../../../configs/demo/maskrcnn_r18-slim.py'

model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64]),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=50, max_per_img=50), rcnn=dict(sampler=dict(num=16))
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=50), rcnn=dict(max_per_img=20, score_thr=0.0)
    ),
)
train_cfg = dict(max_iters=24, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=6),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=6, end=24, T_max=18),
]
train_pipeline = [
    dict(step, crop_size=(64, 64)) if step['type'] == 'RandomCrop' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
submission_dataloader = dict(num_workers=0)
default_hooks = dict(
    logger=dict(interval=1),
    # The loss falls: most validations find a new best.
    checkpoint=dict(interval=2, save_best='val/loss', rule='less'),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ValidationLossHook'),
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1),
]
