# Adagrad for 225 epochs: linear warm-up over three epochs, then a cosine, both per
# iteration.
train_cfg = dict(type='ResumableEpochLoop', max_epochs=225, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='Adagrad', lr=1e-3, weight_decay=1e-4))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        begin=0,
        end=3,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=3,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=14)
