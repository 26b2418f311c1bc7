# Ablation: an average of the weights is validated and saved.
_base_ = ['../maskrcnn_r50.py', '../../_base_/schedules/ema.py']

custom_hooks = [*_base_.custom_hooks, _base_.ema]
