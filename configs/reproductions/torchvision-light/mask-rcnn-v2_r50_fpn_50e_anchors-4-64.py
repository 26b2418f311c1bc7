# Anchors of 4...64. Row "warmUp_smallAnchor".
_base_ = './mask-rcnn-v2_r50_fpn_50e.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[1])))
