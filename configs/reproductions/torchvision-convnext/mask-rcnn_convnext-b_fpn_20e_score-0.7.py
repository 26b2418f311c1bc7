# Score threshold 0.7 instead of 0.5. Only the test differs: the checkpoints of
# mask-rcnn_convnext-b_fpn_20e.py can be tested with this config.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(test_cfg=dict(rcnn=dict(score_thr=0.7)))
