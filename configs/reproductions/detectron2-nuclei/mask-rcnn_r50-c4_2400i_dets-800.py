# Report 004 with at most 800 detections per image: "not change too much". Only the test
# differs: the checkpoints of mask-rcnn_r50-c4_2400i.py can be tested with this config.
_base_ = './mask-rcnn_r50-c4_2400i.py'

model = dict(test_cfg=dict(rcnn=dict(max_per_img=800)))

report = [dict(number='004', table='detections per image', row='800')]
