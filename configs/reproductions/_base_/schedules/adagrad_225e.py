# Adagrad for 225 epochs: warm-up over 1,000 iterations within a cosine to zero, the
# curve of detectron2's WarmupCosineLR.
train_cfg = dict(type='ResumableEpochLoop', max_epochs=225, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='Adagrad', lr=1e-3, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=14)
