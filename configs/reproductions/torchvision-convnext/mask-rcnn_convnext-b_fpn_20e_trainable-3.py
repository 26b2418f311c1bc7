# Three trained layers of the backbone instead of five.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

model = dict(backbone=dict(frozen_layers=5))
