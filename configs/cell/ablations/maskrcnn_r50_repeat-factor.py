# Ablation: images with rare classes come more often, which makes an epoch longer.
_base_ = '../maskrcnn_r50.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='SeededDataset',
        dataset=dict(
            type='ClassBalancedDataset',
            # Repeat factors of LVIS (arXiv 1908.03195) for classes that fewer than
            # 30 % of the images have.
            oversample_thr=0.3,
            dataset=_base_.train_dataloader.dataset)))
