# Ablation: Cascade Mask R-CNN (arXiv 1906.09756) instead of Mask R-CNN.
_base_ = [
    '../../_base_/models/cascade-mask-rcnn_r50_fpn_cell.py',
    '../../_base_/datasets/cell.py',
    '../../_base_/schedules/adamw_36e.py',
    '../../_base_/runtime_course.py',
]

heads = _base_.model.roi_head
num_classes = len(_base_.classes)
model = dict(
    roi_head=dict(
        bbox_head=[dict(head, num_classes=num_classes) for head in heads.bbox_head],
        mask_head=dict(num_classes=num_classes)))
