# Anchors of 2...64. Row "warmUp_smallAnchor_v2".
#
# The report names six sizes for a pyramid of five levels; here it gets a sixth level.
_base_ = './mask-rcnn-v2_r50_fpn_50e.py'

model = dict(
    neck=dict(num_outs=6),
    rpn_head=dict(
        anchor_generator=dict(scales=[0.5], strides=[4, 8, 16, 32, 64, 128])))
