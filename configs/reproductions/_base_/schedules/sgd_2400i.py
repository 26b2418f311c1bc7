# SGD for 2,400 iterations of one image: warm-up over 72 iterations, then steps.
_base_ = '../../../_base_/schedules/adamw_300i.py'

max_iters = 2400
train_cfg = dict(max_iters=max_iters, val_interval=200)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=False, begin=0, end=72),
    dict(
        type='MultiStepLR',
        milestones=[480, 1200, 1920, 2160],
        gamma=0.1,
        by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=1)
