# Report 001, row "3 trainable layers": public 0.39. The second stage is frozen too.
_base_ = './maskrcnn_convnext-b_cosine-20e.py'

model = dict(backbone=dict(frozen_stages=2))
