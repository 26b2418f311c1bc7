# The box head pools from the two finest levels only. Row "warmUp_smallAnchor_light".
_base_ = './mask-rcnn-v2_r50_fpn_50e_anchors-4-64.py'

model = dict(
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8])))
