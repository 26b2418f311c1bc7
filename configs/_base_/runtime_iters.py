# The runtime of runs that count iterations instead of epochs.
_base_ = './runtime.py'

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100))
log_processor = dict(by_epoch=False)
