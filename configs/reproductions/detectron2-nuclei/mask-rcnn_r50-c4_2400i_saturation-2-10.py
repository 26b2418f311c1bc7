# The saturation of training images is drawn between 2.0 and 10.0 times their own.
_base_ = './mask-rcnn_r50-c4_2400i.py'

saturation = dict(type='RandomBlend', target='gray', weight_range=(2.0, 10.0))
train_pipeline = [
    new for step in _base_.train_pipeline
    for new in ([saturation, step] if step['type'] == 'RandomFlip' else [step])
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
