# torchvision's maskrcnn_resnet50_fpn_v2 (Li et al., arXiv 2111.11429): batch norm in
# the neck and the heads, a two-conv RPN, four convs and one layer in the box head.
#
# 45,892,200 parameters with four classes; torchvision counts 45,896,557, because its
# box and mask layers have outputs for the background that no loss ever reaches.
_base_ = './mask-rcnn_r50_fpn_torchvision.py'

norm_cfg = dict(type='BN')
model = dict(
    # The weights come with load_from.
    backbone=dict(
        norm_cfg=dict(requires_grad=True), norm_eval=False, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))
