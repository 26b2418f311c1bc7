# Ablation: features at stride 2...32 instead of 4...64, with the baseline's anchors. As
# options of another config (a row of a study): model.backbone.type=UnpooledResNet and
# the values below.
_base_ = '../maskrcnn_r50.py'

roi_extractor = dict(featmap_strides=[2, 4, 8, 16], finest_scale=28)
model = dict(
    backbone=dict(type='UnpooledResNet'),
    # 16, 32, ..., 256; scales=[4] gives 8, 16, ..., 128.
    rpn_head=dict(
        anchor_generator=dict(strides=[2, 4, 8, 16, 32], scales=[8])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor, mask_roi_extractor=roi_extractor))
