# Ablation: crops and images without cells are left out.
_base_ = '../maskrcnn_r50.py'

drop = dict(
    RandomCrop=dict(allow_negative_crop=False),
    FilterAnnotations=dict(keep_empty=True))  # True drops the empty image
train_pipeline = [
    dict(step, **drop.get(step['type'], {})) for step in _base_.train_pipeline
]
train_dataloader = dict(
    dataset=dict(
        filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline))
