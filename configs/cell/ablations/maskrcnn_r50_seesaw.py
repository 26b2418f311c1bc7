# Ablation: seesaw loss (arXiv 2008.10032) for the classes of boxes, which damps the
# negative gradients that common classes give to rare ones.
_base_ = '../maskrcnn_r50.py'

seesaw = dict(
    _delete_=True,
    type='SeesawLoss',
    p=0.8,
    q=2.0,
    num_classes=len(_base_.classes),
    loss_weight=1.0)
model = dict(roi_head=dict(bbox_head=dict(loss_cls=seesaw)))
