# Report 004, row "R_101_C4".
_base_ = './mask-rcnn_r50-c4_2400i.py'

weights = dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')
model = dict(
    backbone=dict(depth=101, init_cfg=weights),
    roi_head=dict(shared_head=dict(depth=101, init_cfg=weights)))

report = [
    dict(
        number='004', table='results', row='R_101_C4_3x, 1599-iter',
        score=0.244082),
]
