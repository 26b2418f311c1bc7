# Ablation: ConvNeXt-T instead of ResNet-50.
_base_ = ['../maskrcnn_r50.py', '../../_base_/models/backbones.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'custom.models.backbones'])
model = dict(
    backbone=dict(_delete_=True, **_base_.convnext_t),
    neck=dict(in_channels=_base_.convnext_t_channels))
optim_wrapper = dict(_base_.convnext_t_decay)
