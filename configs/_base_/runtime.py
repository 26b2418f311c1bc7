# The loop, logging and checkpoints of every run, on top of MMDetection's.
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
    # The course's rule: fewer than 200 million trainable parameters.
    dict(type='ModelBudgetHook', limit=200_000_000),
    dict(type='NonFiniteLossHook', max_skips=20),
    # A run that is killed or told to stop goes on exactly (docs/reliability.md).
    dict(type='RandomStateHook'),
    dict(type='GradientStateHook'),
    dict(type='PreemptionHook'),
    # For distributed runs of networks that train batch norm.
    dict(type='BatchNormStatsHook'),
]

visualizer = dict(
    type='CellVisualizer',
    vis_backends=[dict(type='LocalVisBackend'),
                  dict(type='TensorboardVisBackend')])

# Everything that draws a random number follows this seed.
randomness = dict(seed=42)
