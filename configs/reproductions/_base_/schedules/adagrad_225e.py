# Adagrad for 225 epochs: warm-up over 1,000 iterations within a cosine to zero, the
# curve of detectron2's WarmupCosineLR.
_base_ = '../../../_base_/schedules/adamw_36e.py'

max_epochs = 225
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='Adagrad', lr=1e-3, weight_decay=1e-4),
    clip_grad=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=14)
