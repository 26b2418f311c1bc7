# The 2021 task in minutes on two CPU cores: 256² crops, 300 iterations.
_base_ = [
    '../_base_/models/mask-rcnn_r18-slim_fpn_cell.py',
    '../_base_/datasets/nuclei2021.py',
    '../_base_/schedules/adamw_300i.py',
    '../_base_/runtime_iters.py',
]

num_classes = len(_base_.classes)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(num_classes=num_classes)))
train_pipeline = [
    dict(step, crop_size=(256, 256)) if step['type'] == 'RandomCrop' else step
    for step in _base_.train_pipeline if step['type'] != 'RandomScale'
]
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    sampler=dict(type='InfiniteDrawSampler'),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, pin_memory=False)
test_dataloader = val_dataloader
submission_dataloader = dict(num_workers=1, pin_memory=False)
