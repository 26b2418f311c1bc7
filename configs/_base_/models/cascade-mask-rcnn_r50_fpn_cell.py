# Cascade Mask R-CNN R50-FPN with the settings of mask-rcnn_r50_fpn_cell.py.
_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(type='Fp32RoIExtractor'),
        mask_roi_extractor=dict(type='Fp32RoIExtractor'),
        mask_head=dict(type='RoIFCNMaskHead')),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='SparseMaxIoUAssigner', ignore_iof_thr=0.5)),
        rcnn=[
            dict(
                stage,
                assigner=dict(
                    stage.assigner,
                    type='SparseMaxIoUAssigner',
                    ignore_iof_thr=0.5))
            for stage in _base_.model.train_cfg.rcnn
        ]),
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=2000),
        rcnn=dict(score_thr=0.01, max_per_img=1000)))
