# Report 001, the final run: the hyperparameters of its best model on all images,
# without validation.
_base_ = './mask-rcnn_convnext-b_fpn_20e.py'

train_dataloader = dict(dataset=dict(split='all'))
val_dataloader = None
val_evaluator = None
val_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None))

report = [
    dict(
        number='001', table='final run', row='ConvNeXt_base, all images',
        public_mAP=0.3972),
]
