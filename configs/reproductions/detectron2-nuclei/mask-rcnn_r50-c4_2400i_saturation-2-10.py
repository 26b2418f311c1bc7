# Report 004, row "saturation 2 ~ 10". Blended as RGB.
_base_ = './mask-rcnn_r50-c4_2400i.py'

saturation = dict(type='RandomSaturation', intensity_range=(2.0, 10.0))
train_pipeline = [
    *_base_.train_pipeline[:-2], saturation, *_base_.train_pipeline[-2:]
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

report = [
    dict(
        number='004', table='results', row='R_50_C4_1x, saturation 2 ~ 10',
        score=0.242970),
]
