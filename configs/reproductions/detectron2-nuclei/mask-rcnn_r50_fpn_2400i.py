# R50-FPN with its COCO weights (1x) instead of R50-C4.
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_detectron2.py',
    '../_base_/datasets/nuclei2021_half-crop.py',
    '../_base_/schedules/sgd_2400i.py',
    '../../_base_/runtime_iters.py',
]

load_from = ('https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/'
             'mask_rcnn_R_50_FPN_1x/137260431/model_final_a54504.pkl')
model = dict(
    # detectron2 gives a single list of sizes to each of the five levels.
    rpn_head=dict(
        anchor_generator=dict(
            base_sizes=[1, 1, 1, 1, 1], scales=[8, 16, 32, 64, 128])),
    roi_head=dict(
        bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=500)))
# With --tta: both directions at each of its three sizes.
tta_views = dict(scales=[1.5, 1.6, 1.7], elements=['identity', 'horizontal'])
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=-1))
