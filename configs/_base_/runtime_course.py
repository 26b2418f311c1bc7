# The runtime of the course's task: fewer than 200 million trainable parameters.
_base_ = './runtime.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ModelBudgetHook', limit=200_000_000),
]
