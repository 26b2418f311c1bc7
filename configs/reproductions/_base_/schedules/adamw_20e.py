# AdamW for 20 epochs, a cosine per epoch.
_base_ = '../../../_base_/schedules/adamw_36e.py'

train_cfg = dict(max_epochs=20)
optim_wrapper = dict(
    optimizer=dict(weight_decay=1e-2), clip_grad=dict(max_norm=1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, eta_min=1e-6)]
auto_scale_lr = dict(base_batch_size=4)
