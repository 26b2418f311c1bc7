# The front door of the 2021 task: Mask R-CNN R50-FPN, ImageNet weights, nuclei.
#
#   python tools/train.py configs/cell/maskrcnn_r50_nuclei2021.py
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_cell.py',
    '../_base_/datasets/nuclei2021.py',
    '../_base_/schedules/adamw_36e.py',
    '../_base_/runtime.py',
]

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
