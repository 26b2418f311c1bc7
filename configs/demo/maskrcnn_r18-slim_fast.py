# The recipe of the ablation study (docs/study.md): four crops in a step, paid for by one
# anchor per location, half of the sampled RoIs, and two fewer mask convolutions.
_base_ = './maskrcnn_r18-slim.py'

train_dataloader = dict(batch_size=4)
model = dict(
    rpn_head=dict(anchor_generator=dict(ratios=[1.0])),
    roi_head=dict(mask_head=dict(num_convs=2)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
