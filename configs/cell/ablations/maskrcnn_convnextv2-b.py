# Ablation: ConvNeXt V2-B instead of ResNet-50.
_base_ = ['../maskrcnn_r50.py', '../../_base_/models/backbones.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'custom.models.backbones'])
model = dict(
    backbone=dict(_delete_=True, **_base_.convnextv2_b),
    neck=dict(in_channels=_base_.convnextv2_b_channels))
optim_wrapper = dict(_base_.convnextv2_b_decay)
