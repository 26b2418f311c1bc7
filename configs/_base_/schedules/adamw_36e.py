# AdamW, a short linear warm-up, then a cosine to zero over 36 epochs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        T_max=36,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
# lr is for 2 images per step; tools/train.py --auto-scale-lr scales it.
auto_scale_lr = dict(enable=False, base_batch_size=2)
