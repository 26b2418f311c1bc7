# Ablation: copy-paste that takes cells of the rare classes first.
_base_ = './maskrcnn_r50_copy-paste.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.copy_paste_rare,
            *_base_.train_dataloader.dataset.pipeline[1:],
        ]))
