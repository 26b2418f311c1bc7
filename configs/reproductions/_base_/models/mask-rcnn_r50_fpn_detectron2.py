# detectron2's Mask R-CNN R50-FPN. The weights come with load_from.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    data_preprocessor=dict(
        mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False), style='caffe', init_cfg=None),
    # detectron2 orders the anchors of a location by size, then by ratio.
    rpn_head=dict(anchor_generator=dict(scale_major=False)),
    roi_head=dict(mask_head=dict(type='RoIFCNMaskHead')),
    # The best anchors of a cell are positive however little they overlap.
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='SparseMaxIoUAssigner', min_pos_iou=1e-6)),
        rcnn=dict(assigner=dict(type='SparseMaxIoUAssigner'))))
