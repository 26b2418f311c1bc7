# Ablation: the champion's anchors, square ones of 8, 12, 16, 24, ..., 192.
_base_ = './maskrcnn_r50_anchors-8-192.py'

model = dict(rpn_head=dict(anchor_generator=dict(ratios=[1.0])))
