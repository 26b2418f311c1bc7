# SGD for 50 epochs: linear warm-up over the first 5 % of the iterations, then a cosine
# to zero, both per iteration.
train_cfg = dict(type='ResumableEpochLoop', max_epochs=50, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='SGD', lr=5e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        begin=0,
        end=2.5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=2.5,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
