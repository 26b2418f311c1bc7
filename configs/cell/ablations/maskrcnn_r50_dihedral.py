# Ablation: all eight flips and rotations by right angles instead of the three flips.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/augmentations.py']

train_pipeline = [
    _base_.dihedral if step['type'] == 'RandomFlip' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
