# Ablation: three stages of boxes and masks (Cai and Vasconcelos, arXiv 1906.09756).
_base_ = [
    '../../_base_/models/cascade-mask-rcnn_r50_fpn_cell.py',
    '../../_base_/datasets/cell.py',
    '../../_base_/schedules/adamw_36e.py',
    '../../_base_/runtime_course.py',
]
