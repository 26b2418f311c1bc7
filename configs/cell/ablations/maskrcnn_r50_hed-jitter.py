# Ablation: jitter of the stains.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/ingredients.py']

train_pipeline = [
    *_base_.train_pipeline[:-1], _base_.hed_jitter, _base_.train_pipeline[-1]
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
