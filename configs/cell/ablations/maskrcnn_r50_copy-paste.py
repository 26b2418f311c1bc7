# Ablation: cells of another training image are pasted in.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/augmentations.py']

load_pipeline = [
    step for step in _base_.train_pipeline if step['type'] != 'PackDetInputs'
]
train_pipeline = [_base_.copy_paste, _base_.drop_empty_boxes, _base_.pack]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='SeededDataset',
        dataset=dict(
            type='MultiImageMixDataset',
            dataset=dict(
                _base_.train_dataloader.dataset, pipeline=load_pipeline),
            pipeline=train_pipeline)))
