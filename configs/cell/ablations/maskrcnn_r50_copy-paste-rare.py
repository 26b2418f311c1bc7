# Ablation: copy-paste takes cells of the rare classes first.
_base_ = './maskrcnn_r50_copy-paste.py'

copy_paste = dict(_base_.copy_paste, class_weights=_base_.class_weights)
train_pipeline = [
    copy_paste if step['type'] == 'LabelCopyPaste' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
