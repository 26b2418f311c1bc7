# Mask R-CNN R50-FPN with the settings of torchvision's maskrcnn_resnet50_fpn: frozen
# batch norm, anchors of 32...512, its RoIAlign and losses, at most 100 detections above
# a score of 0.05.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

roi_layer = dict(sampling_ratio=2, aligned=False)
smooth_l1 = dict(
    _delete_=True, type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0)
model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=False)),
    rpn_head=dict(loss_bbox=smooth_l1),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        bbox_head=dict(num_classes=4, loss_bbox=smooth_l1),
        mask_roi_extractor=dict(roi_layer=roi_layer),
        mask_head=dict(type='RoIFCNMaskHead', num_classes=4)),
    train_cfg=dict(
        # The best anchors of a cell are positive however little they overlap.
        rpn=dict(
            assigner=dict(type='SparseMaxIoUAssigner', min_pos_iou=1e-6)),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=dict(assigner=dict(type='SparseMaxIoUAssigner'))))
