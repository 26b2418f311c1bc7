# Ablation: cells of another training image are pasted in.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/ingredients.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=_base_.train_pipeline[:-1]),
        pipeline=[
            _base_.copy_paste,
            _base_.drop_empty_boxes,
            _base_.train_pipeline[-1],
        ]))
