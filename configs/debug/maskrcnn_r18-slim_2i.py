# Two iterations, a validation and a checkpoint of the demo: does everything run?
_base_ = '../demo/maskrcnn_r18-slim.py'

model = dict(test_cfg=dict(rcnn=dict(max_per_img=20)))
train_cfg = dict(max_iters=2, val_interval=2)
param_scheduler = None
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
submission_dataloader = dict(num_workers=0)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
