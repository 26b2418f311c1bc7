# Ablation: COCO's 100 detections per image. Only the test differs: the checkpoints of
# maskrcnn_r50.py can be tested with this config.
_base_ = '../maskrcnn_r50.py'

model = dict(test_cfg=dict(rcnn=dict(max_per_img=100)))
