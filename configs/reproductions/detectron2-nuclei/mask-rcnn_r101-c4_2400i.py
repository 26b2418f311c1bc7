# R101-C4 with its COCO weights (3x) instead of R50-C4.
_base_ = './mask-rcnn_r50-c4_2400i.py'

load_from = ('https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/'
             'mask_rcnn_R_101_C4_3x/138363239/model_final_a2914c.pkl')
model = dict(
    backbone=dict(depth=101), roi_head=dict(shared_head=dict(depth=101)))
