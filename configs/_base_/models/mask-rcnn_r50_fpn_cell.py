# Mask R-CNN R50-FPN for small, dense cells. The number of classes follows from the data
# in the config that puts the two together.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    # Half of the cells are below 23 pixels: anchors of 16, 32, ..., 256.
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(type='Fp32RoIExtractor'),
        mask_roi_extractor=dict(type='Fp32RoIExtractor'),
        mask_head=dict(type='RoIFCNMaskHead')),
    # A region has up to 770 cells. Ignored regions are not trained as background.
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='SparseMaxIoUAssigner', ignore_iof_thr=0.5)),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=dict(
            assigner=dict(type='SparseMaxIoUAssigner', ignore_iof_thr=0.5))),
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=2000),
        rcnn=dict(score_thr=0.01, max_per_img=1000)))
