# The 2021 task with the augmentation of report 004, one image per step.
_base_ = ['../../../_base_/datasets/nuclei2021.py', './half-crop_608-800.py']

train_pipeline = [
    *_base_.train_pipeline[:2],
    *_base_.half_608_800,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    batch_size=1,
    sampler=dict(type='InfiniteDrawSampler'),
    dataset=dict(pipeline=train_pipeline))
