# Images of 400 to 1000 pixels instead of 800 to 1333.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

resize = dict(type='Resize', scale=(1000, 400), keep_ratio=True)
train_pipeline, val_pipeline = (
    [resize if step['type'] == 'Resize' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
