# detectron2's Mask R-CNN R50-C4 from its COCO weights (1x): anchors of 8...128, 2,400
# iterations of one image, a checkpoint every 200, at most 500 detections.
_base_ = [
    '../_base_/models/mask-rcnn_r50-c4_detectron2.py',
    '../_base_/datasets/nuclei2021_half-crop.py',
    '../_base_/schedules/sgd_2400i.py',
    '../../_base_/runtime_iters.py',
]

load_from = ('https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/'
             'mask_rcnn_R_50_C4_1x/137259246/model_final_9243eb.pkl')
model = dict(
    # Scale times stride, which is 16.
    rpn_head=dict(anchor_generator=dict(scales=[0.5, 1, 2, 4, 8])),
    roi_head=dict(
        bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=500)))
# With --tta: both directions at each of its three sizes.
tta_views = dict(scales=[1.5, 1.6, 1.7], elements=['identity', 'horizontal'])
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=-1))
