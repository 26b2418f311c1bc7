# Report 002, row "warmUp_smallAnchor": anchors of 4...64. Validation mAP 0.3383, public
# 0.3778, 2.087 hours.
_base_ = './maskrcnn-v2_r50_warmup.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[1])))
