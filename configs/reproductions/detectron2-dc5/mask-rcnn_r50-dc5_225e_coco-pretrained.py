# The same from detectron2's COCO weights, as the report's code.
_base_ = './mask-rcnn_r50-dc5_225e.py'

load_from = ('https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/'
             'mask_rcnn_R_50_DC5_3x/137849551/model_final_84107b.pkl')
model = dict(backbone=dict(init_cfg=None))
