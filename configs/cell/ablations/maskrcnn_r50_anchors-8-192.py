# Ablation: two anchors per level, 8, 12, 16, 24, ..., 192.
_base_ = '../maskrcnn_r50.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[2, 3])))
