# Report 004, row "R_50_FPN". Torchvision's R50 stands for detectron2's.
_base_ = [
    '../../_base_/models/mask-rcnn_r50_fpn_cell.py',
    '../_base_/datasets/nuclei2021_608-800.py',
    '../_base_/schedules/sgd_2400i.py',
    '../../_base_/runtime_iters.py',
]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2])),  # 8...128
    roi_head=dict(
        bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(score_thr=0.05, max_per_img=500)))
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=-1))

report = [
    dict(
        number='004', table='results', row='R_50_FPN_1x, model_final',
        score=0.231493),
]
