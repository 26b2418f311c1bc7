# Report 002, row "warmUp_smallAnchor": anchors of 4...64.
_base_ = './mask-rcnn-v2_r50_fpn_50e.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[1])))

report = [
    dict(
        number='002', table='experiments', row='warmUp_smallAnchor',
        validation_mAP=0.3383, public_mAP=0.3778, hours=2.087),
]
