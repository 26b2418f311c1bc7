# Ablation: images with rare classes come more often, which makes an epoch longer.
_base_ = ['../maskrcnn_r50.py', '../../_base_/datasets/ingredients.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=_base_.oversample_thr,
        dataset=_base_.train_dataloader.dataset))
