# AdamW for 20 epochs, a cosine that changes the rate after each epoch.
train_cfg = dict(type='ResumableEpochLoop', max_epochs=20, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteLossOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-2),
    clip_grad=dict(max_norm=1))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6)]
auto_scale_lr = dict(enable=False, base_batch_size=4)
