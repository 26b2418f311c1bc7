# Ablation: score threshold 0.001 instead of 0.01. Only the test differs: the checkpoints of
# maskrcnn_r50.py can be tested with this config.
_base_ = '../maskrcnn_r50.py'

model = dict(test_cfg=dict(rcnn=dict(score_thr=0.001)))
