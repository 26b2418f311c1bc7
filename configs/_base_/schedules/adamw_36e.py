# AdamW for 36 epochs: a linear warm-up of 200 iterations, then a cosine to 1e-6.
#
# Another length: --cfg-options train_cfg.max_epochs=72; the cosine follows it.
train_cfg = dict(type='ResumableEpochLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    # No decay of biases and of parameters with one dimension: norms, GRN, layer scale.
    paramwise_cfg=dict(
        norm_decay_mult=0, bias_decay_mult=0, flat_decay_mult=0),
    clip_grad=dict(max_norm=5))
# Without T_max and end MMEngine takes the length of the run.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, convert_to_iter_based=True),
]
# lr is for 2 images per step; tools/train.py --auto-scale-lr scales it.
auto_scale_lr = dict(enable=False, base_batch_size=2)
