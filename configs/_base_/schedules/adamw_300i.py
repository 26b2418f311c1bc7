# AdamW for 300 iterations: a linear warm-up of 50, and a cosine to 1e-6.
#
# Another length: --cfg-options train_cfg.max_iters=450; the cosine follows it.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0, bias_decay_mult=0, flat_decay_mult=0),
    clip_grad=dict(max_norm=5))
# Without T_max and end MMEngine takes the length of the run.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, eta_min=1e-6),
]
auto_scale_lr = dict(enable=False, base_batch_size=2)
