# One image, trained and validated without augmentation: can the model learn at all?
# If its AP50 stays near zero, inspect the labels first (tools/data/browse.py).
_base_ = '../demo/maskrcnn_r18-slim.py'

train_pipeline = [
    step for step in _base_.train_pipeline
    if step['type'] not in ('RandomCrop', 'RandomFlip')
]
train_cfg = dict(max_iters=150, val_interval=50)
param_scheduler = None
train_dataloader = dict(
    batch_size=1, dataset=dict(pipeline=train_pipeline, indices=1))
val_dataloader = dict(dataset=dict(subset='train', indices=1))
test_dataloader = val_dataloader
