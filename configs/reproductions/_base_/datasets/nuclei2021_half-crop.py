# The 2021 task, a quarter of one image per step; images are tested in their own size.
_base_ = ['../../../_base_/datasets/nuclei2021.py', './half-crop.py']

train_pipeline = [
    _base_.load_image, _base_.load_masks, *_base_.half_crop, _base_.pack
]
native = dict(type='Resize', scale_factor=1.0, keep_ratio=True)
val_pipeline = [
    _base_.load_image, native, _base_.load_masks, _base_.pack_test
]
train_dataloader = dict(
    batch_size=1,
    sampler=dict(type='InfiniteDrawSampler'),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
