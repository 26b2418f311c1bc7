# detectron2's Mask R-CNN R50-C4: heads on the fourth stage, stride 16; the fifth stage
# is part of the heads. The weights come with load_from.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

model = dict(
    backbone=dict(init_cfg=None),
    # detectron2 orders the anchors of a location by size, then by ratio.
    rpn_head=dict(anchor_generator=dict(scale_major=False)),
    roi_head=dict(mask_head=dict(type='RoIFCNMaskHead')),
    train_cfg=dict(
        rpn=dict(
            # Anchors across the border train; the best anchors of a cell are positive
            # however little they overlap.
            allowed_border=-1,
            assigner=dict(type='SparseMaxIoUAssigner', min_pos_iou=1e-6)),
        rcnn=dict(assigner=dict(type='SparseMaxIoUAssigner'))))
