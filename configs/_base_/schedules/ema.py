# An average of the weights that is validated and saved: of about the last 1,000
# iterations, of fewer at the beginning.
ema = dict(
    type='EMAHook',
    ema_type='ExpMomentumEMA',
    momentum=0.001,
    gamma=500,
    update_buffers=True)
