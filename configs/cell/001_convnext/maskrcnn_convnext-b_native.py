# Report 001, row "adapt minmax size: no", read literally: images keep their size. (Its
# code leaves torchvision's 800-1333, which is maskrcnn_convnext-b_cosine-20e.py.)
_base_ = './maskrcnn_convnext-b_cosine-20e.py'

native = dict(type='Resize', scale_factor=1.0, keep_ratio=True)
train_pipeline, val_pipeline, test_pipeline = (
    [native if step['type'] == 'Resize' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline,
                     _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
submission_dataloader = dict(dataset=dict(pipeline=test_pipeline))

report = [
    dict(
        number='001', table='adapt minmax size', row='X, read as native',
        public_mAP=0.40),
]
