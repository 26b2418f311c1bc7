# AdamW at a constant rate for 30 epochs.
_base_ = '../../../_base_/schedules/adamw_36e.py'

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4), clip_grad=None)
param_scheduler = None
