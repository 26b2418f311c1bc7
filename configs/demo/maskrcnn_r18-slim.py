# The four-class task in minutes on two CPU cores: 256² crops, 300 iterations.
# About half a second per step of two images; `make demo` trains it.
_base_ = [
    '../_base_/models/mask-rcnn_r18-slim_fpn_cell.py',
    '../_base_/datasets/cell.py',
    '../_base_/schedules/adamw_300i.py',
    '../_base_/runtime_iters.py',
]

train_pipeline = [
    dict(step, crop_size=(256, 256)) if step['type'] == 'RandomCrop' else step
    for step in _base_.train_pipeline if step['type'] != 'RandomScale'
]
train_dataloader = dict(
    num_workers=1,
    sampler=dict(type='InfiniteDrawSampler'),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
