# Report 001, row "box score threshold 0.7". Only the test differs: the
# checkpoint of mask-rcnn_convnext-b_fpn_20e.py can be tested with this config.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(test_cfg=dict(rcnn=dict(score_thr=0.7)))

report = [
    dict(number='001', table='box score threshold', row='0.7', public_mAP=0.37),
]
