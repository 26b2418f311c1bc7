# Report 001, row "box score threshold 0.7". Only the test differs: the
# checkpoint of maskrcnn_convnext-b_cosine-20e.py can be tested with this config.
_base_ = './maskrcnn_convnext-b_cosine-20e.py'

model = dict(test_cfg=dict(rcnn=dict(score_thr=0.7)))

report = [
    dict(number='001', table='box score threshold', row='0.7', public_mAP=0.37),
]
