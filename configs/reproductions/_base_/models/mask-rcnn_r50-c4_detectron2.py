# Mask R-CNN on the fourth stage of R50, stride 16; the fifth is part of the heads.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

model = dict(
    roi_head=dict(
        # Without these the fifth stage would start from random weights, under batch
        # norm that never learns.
        shared_head=dict(
            init_cfg=dict(
                type='Pretrained',
                checkpoint='open-mmlab://detectron2/resnet50_caffe')),
        bbox_head=dict(num_classes=4),
        mask_head=dict(type='RoIFCNMaskHead', num_classes=4)),
    train_cfg=dict(
        rpn=dict(assigner=dict(type='SparseMaxIoUAssigner')),
        rcnn=dict(assigner=dict(type='SparseMaxIoUAssigner'))))
