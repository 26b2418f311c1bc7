# Report 001, row "adapt minmax size": shorter side 400, longer at most 1000 pixels.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

resize = dict(type='Resize', scale=(1000, 400), keep_ratio=True)
train_pipeline = [*_base_.train_pipeline[:2], resize, *_base_.train_pipeline[3:]]
val_pipeline = [_base_.val_pipeline[0], resize, *_base_.val_pipeline[2:]]
test_pipeline = [_base_.test_pipeline[0], resize, _base_.test_pipeline[2]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
submission_dataloader = dict(dataset=dict(pipeline=test_pipeline))

report = [
    dict(number='001', table='adapt minmax size', row='V', public_mAP=0.36),
]
