# SGD for 2,400 iterations of one image: warm-up over 72 iterations, then steps.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2400, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=False, begin=0, end=72),
    dict(
        type='MultiStepLR',
        milestones=[480, 1200, 1920, 2160],
        gamma=0.1,
        by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=1)
