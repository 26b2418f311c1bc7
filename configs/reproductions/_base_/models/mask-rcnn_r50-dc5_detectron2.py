# Mask R-CNN on the dilated last stage of R50, stride 16, without a pyramid: MMDetection
# has the box detector, and the mask branch is detectron2's mask_rcnn_R_50_DC5.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50-caffe-dc5.py'

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    # detectron2 orders the anchors of a location by size, then by ratio.
    rpn_head=dict(anchor_generator=dict(scale_major=False)),
    roi_head=dict(
        bbox_head=dict(num_classes=4),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=2048,
            featmap_strides=[16]),
        mask_head=dict(
            type='RoIFCNMaskHead',
            num_convs=4,
            in_channels=2048,
            conv_out_channels=256,
            num_classes=4,
            loss_mask=dict(
                type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(
        rpn=dict(
            # Anchors across the border train; the best anchors of a cell are positive
            # however little they overlap.
            allowed_border=-1,
            assigner=dict(type='SparseMaxIoUAssigner', min_pos_iou=1e-6)),
        rcnn=dict(
            assigner=dict(type='SparseMaxIoUAssigner'), mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))
