# The baseline: Mask R-CNN R50-FPN, ImageNet weights, four classes of cells.
#
#   python tools/train.py configs/cell/maskrcnn_r50.py
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_cell.py',
    '../_base_/datasets/cell.py',
    '../_base_/schedules/adamw_36e.py',
    '../_base_/runtime_course.py',
]

num_classes = len(_base_.classes)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(num_classes=num_classes)))
