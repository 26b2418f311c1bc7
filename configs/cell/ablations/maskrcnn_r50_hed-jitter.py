# Ablation: jitter of the stains.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/augmentations.py']

train_pipeline = [
    step for step in _base_.train_pipeline if step['type'] != 'PackDetInputs'
]
train_pipeline += [_base_.hed_jitter, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
