# Runner, logging and checkpoints of every run, on top of MMDetection's.
_base_ = ['mmdet::_base_/default_runtime.py', './tta.py']

custom_imports = dict(
    imports=[
        'custom.datasets',
        'custom.evaluation',
        'custom.engine',
        'custom.models',
        'custom.transforms',
    ],
    allow_failed_imports=False)

default_hooks = dict(
    # One axis, iterations, for losses and metrics alike.
    logger=dict(
        type='MainLoggerHook', interval=10, log_metric_by_epoch=False),
    checkpoint=dict(
        type='AtomicCheckpointHook',
        max_keep_ckpts=2,
        save_best='coco/segm_mAP_50',
        rule='greater'),
    visualization=dict(type='CellVisualizationHook'))
custom_hooks = [
    dict(type='RunRecordHook'),
    dict(type='ClassCheckHook'),
    dict(type='ScheduleCheckHook'),
    dict(type='NonFiniteLossHook', max_skips=20),
    # Saves and exits with code 85 on SIGTERM (docs/reliability.md).
    dict(type='PreemptionHook'),
]
# MMDetection's tools/train.py and test.py build this Runner, too.
runner_type = 'CellRunner'
# In distributed runs batch norm keeps the running statistics of the first process.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', broadcast_buffers=True)

visualizer = dict(
    type='CellVisualizer',
    vis_backends=[dict(type='LocalVisBackend'),
                  dict(type='TensorboardVisBackend')])

# Seed of all random-number generators.
randomness = dict(seed=42)
