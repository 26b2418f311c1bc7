# Whole images as torchvision resizes them: the shorter side becomes 800 pixels unless
# the longer one would exceed 1333. No augmentation.
_base_ = '../../../_base_/datasets/cell.py'

resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
train_pipeline = [_base_.load_image, _base_.load_masks, resize, _base_.pack]
val_pipeline = [
    _base_.load_image, resize, _base_.load_masks, _base_.pack_test
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
