# The front door with ConvNeXt V2-B: 108 million parameters.
_base_ = ['../maskrcnn_r50.py', '../../_base_/models/convnextv2-b.py']

model = dict(
    backbone=dict(_delete_=True, **_base_.convnextv2_b),
    neck=dict(in_channels=_base_.convnextv2_b_channels))
