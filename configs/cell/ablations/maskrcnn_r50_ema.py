# Ablation: an average of the weights is validated and saved.
_base_ = '../maskrcnn_r50.py'

# Of about the last 1,000 iterations, of fewer at the beginning.
ema = dict(
    type='EMAHook',
    ema_type='ExpMomentumEMA',
    momentum=0.001,
    gamma=500,
    update_buffers=True)
custom_hooks = [*_base_.custom_hooks, ema]
