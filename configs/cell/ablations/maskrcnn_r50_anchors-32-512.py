# Ablation: MMDetection's anchors, 32...512.
_base_ = '../maskrcnn_r50.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[8])))
