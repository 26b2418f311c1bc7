# Report 002, row "warmUp_smallAnchor_light", its best: the box head pools from the two
# finest levels only.
#
# Its 45,896,557 parameters are those of the whole v2 model: the change saves none.
_base_ = './mask-rcnn-v2_r50_fpn_50e_anchors-4-64.py'

model = dict(
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8])))

report = [
    dict(
        number='002', table='experiments', row='warmUp_smallAnchor_light',
        validation_mAP=0.3314, public_mAP=0.3781, hours=1.734,
        parameters=45_896_557),
]
