# Adagrad for 225 epochs: linear warm-up over three epochs, then a cosine, both per
# iteration.
max_epochs = 225
warmup_epochs = 3
train_cfg = dict(
    type='ResumableEpochLoop', max_epochs=max_epochs, val_interval=5)
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
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=warmup_epochs,
        end=max_epochs,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=14)
