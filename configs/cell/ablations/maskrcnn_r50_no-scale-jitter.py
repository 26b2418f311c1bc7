# Ablation: images keep their scale.
_base_ = '../maskrcnn_r50.py'

train_pipeline = [
    step for step in _base_.train_pipeline if step['type'] != 'RandomScale'
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
