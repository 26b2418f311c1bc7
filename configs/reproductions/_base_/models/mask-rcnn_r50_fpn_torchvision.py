# Mask R-CNN R50-FPN with the settings of torchvision's maskrcnn_resnet50_fpn: frozen
# batch norm, anchors of 32...512, its RoIAlign, at most 100 detections above 0.05.
_base_ = '../../../_base_/models/mask-rcnn_r50_fpn_cell.py'

roi_layer = dict(sampling_ratio=2, aligned=False)
model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=False)),
    rpn_head=dict(anchor_generator=dict(scales=[8])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        mask_roi_extractor=dict(roi_layer=roi_layer)),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000),
        rcnn=dict(score_thr=0.05, max_per_img=100)))
