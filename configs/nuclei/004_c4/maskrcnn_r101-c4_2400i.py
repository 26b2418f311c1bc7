# Report 004, row "R_101_C4": score 0.244082 (iteration 1599).
_base_ = './maskrcnn_r50-c4_2400i.py'

weights = dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')
model = dict(
    backbone=dict(depth=101, init_cfg=weights),
    roi_head=dict(shared_head=dict(depth=101, init_cfg=weights)))
