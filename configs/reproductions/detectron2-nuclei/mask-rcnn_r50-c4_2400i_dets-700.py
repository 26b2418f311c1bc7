# At most 700 detections instead of 500. Only the test differs: the checkpoints of
# mask-rcnn_r50-c4_2400i.py can be tested with this config.
_base_ = './mask-rcnn_r50-c4_2400i.py'

model = dict(test_cfg=dict(rcnn=dict(max_per_img=700)))
