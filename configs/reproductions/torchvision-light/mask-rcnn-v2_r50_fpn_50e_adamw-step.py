# AdamW and StepLR(3, 0.1) instead of SGD with warm-up and cosine. Row "default".
_base_ = './mask-rcnn-v2_r50_fpn_50e.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4))
param_scheduler = [dict(type='StepLR', step_size=3, gamma=0.1)]
