# The same in epochs of 3 iterations.
_base_ = './tiny_iters.py'

train_cfg = dict(
    _delete_=True, type='ResumableEpochLoop', max_epochs=8, val_interval=2
)
train_dataloader = dict(sampler=dict(_delete_=True, type='DrawSampler'))
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
