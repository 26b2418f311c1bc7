# Ablation: square anchors only.
_base_ = '../maskrcnn_r50.py'

model = dict(rpn_head=dict(anchor_generator=dict(ratios=[1.0])))
