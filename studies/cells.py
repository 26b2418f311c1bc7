# The ablation study: what helps the slim R18 at equal processor time, on the released
# regions with official labels (docs/study.md).
_base_ = [
    '../configs/demo/maskrcnn_r18-slim.py',
    '../configs/_base_/datasets/augmentations.py',
]

data_root = '../shared/data/hw3_official'
# Steps of the baseline. A row whose step costs more takes fewer.
train_cfg = dict(max_iters=200, val_interval=10_000)
optim_wrapper = dict(optimizer=dict(fused=True))
# No worker processes: a run is to take one core.
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
submission_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(logger=dict(interval=25))
bf16 = dict(
    type='BF16Hook',
    modules=['backbone', 'neck', 'rpn_head', 'roi_head.bbox_head',
             'roi_head.mask_head'])
hooks = [dict(type='NonFiniteLossHook', max_skips=20)]
custom_hooks = [*hooks, bf16]
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])

TRAIN = 'train_dataloader.dataset.pipeline'
TEST = 'val_dataloader.dataset.pipeline'
RPN = 'model.rpn_head'
ROI = 'model.roi_head'
RCNN = 'model.test_cfg.rcnn'
data = dict(_base_.train_dataloader.dataset, data_root=data_root)


def before(kind, step):
    """The training pipeline with a step before those of a type."""
    steps = _base_.train_pipeline
    return [s for old in steps for s in ([step, old] if old['type'] == kind else [old])]


def instead(kind, step):
    """The training pipeline with another step of a type."""
    return [step if s['type'] == kind else s for s in _base_.train_pipeline]


def crop(side):
    """The training pipeline with crops of another size."""
    (step,) = (s for s in _base_.train_pipeline if s['type'] == 'RandomCrop')
    return instead('RandomCrop', dict(step, crop_size=(side, side)))


def scaled(low, high):
    """The training pipeline on images scaled by a random factor."""
    return before('RandomCrop', dict(type='RandomScale', factor_range=(low, high)))


def resized(factor):
    """The test pipeline on enlarged images."""
    return [
        dict(s, scale_factor=factor) if s['type'] == 'Resize' else s
        for s in _base_.val_dataloader.dataset.pipeline
    ]


def with_copy_paste(**options):
    """The training data with cells of a second image pasted in."""
    return dict(
        type='SeededDataset',
        dataset=dict(
            type='MultiImageMixDataset',
            dataset=dict(data, pipeline=[
                s for s in _base_.train_pipeline if s['type'] != 'PackDetInputs']),
            pipeline=[dict(_base_.copy_paste, **options),
                      _base_.drop_empty_boxes, _base_.pack]))


def normalized(pipeline):
    """A pipeline that normalises stains after loading."""
    return [pipeline[0], dict(type='StainNormalize'), *pipeline[1:]]


def as_stored(pipeline):
    """A pipeline that leaves red and blue exchanged."""
    return [dict(pipeline[0], channel_order=None), *pipeline[1:]]


def cascade(kind, mask_head, **more):
    """The options of a detector of three stages, from the baseline's heads."""
    head, sampling = _base_.model.roi_head, _base_.model.train_cfg.rcnn
    deviations = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1],
                  [0.033, 0.033, 0.067, 0.067])
    return {
        'model.type': 'CascadeRCNN' if kind == 'Cascade' else 'HybridTaskCascade',
        ROI: dict(
            head,
            type=f'{kind}RoIHead',
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            **more,
            bbox_head=[
                dict(
                    head.bbox_head,
                    num_classes=4,
                    reg_class_agnostic=True,
                    loss_bbox=dict(
                        type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
                    bbox_coder=dict(head.bbox_head.bbox_coder, target_stds=stds))
                for stds in deviations
            ],
            mask_head=mask_head),
        'model.train_cfg.rcnn': [
            dict(sampling, assigner=dict(
                sampling.assigner, pos_iou_thr=iou, neg_iou_thr=iou,
                min_pos_iou=iou))
            for iou in (0.5, 0.6, 0.7)
        ],
        'custom_hooks': [*hooks, dict(bf16, modules=[
            'backbone', 'neck', 'rpn_head',
            *(f'roi_head.bbox_head.{i}' for i in range(3)),
            *(f'roi_head.mask_head.{i}' for i in range(3))])],
    }


mask_head = dict(_base_.model.roi_head.mask_head, num_classes=4)
htc_mask_head = dict(mask_head, type='RoIHTCMaskHead', with_conv_res=True)
# Smaller heads pay for a larger batch.
recipe = {
    'train_dataloader.batch_size': 4,
    'model.train_cfg.rcnn.sampler.num': 64,
    f'{RPN}.anchor_generator.ratios': [1.0],
    f'{ROI}.mask_head.num_convs': 2,
}
roi_levels = {'featmap_strides': [2, 4, 8, 16], 'finest_scale': 28}
stride_2 = {
    'model.backbone.type': 'UnpooledResNet',
    f'{RPN}.anchor_generator.strides': [2, 4, 8, 16, 32],
    f'{RPN}.anchor_generator.scales': [8],
    **{f'{ROI}.{name}_roi_extractor.{key}': value
       for name in ('bbox', 'mask') for key, value in roi_levels.items()},
}
agnostic = {
    f'{ROI}.bbox_head.reg_class_agnostic': True,
    f'{ROI}.mask_head.class_agnostic': True,
}
one_cycle = dict(
    type='OneCycleLR', by_epoch=False, eta_max=2e-3, pct_start=0.25,
    total_steps=train_cfg['max_iters'])


def train(name, options, **row):
    """A row that trains."""
    return dict(dict(folds=[0, 1], seeds=[42]), name=name, options=options, **row)


def test(name, options, **row):
    """A row that tests the baseline's models in another way."""
    return train(name, options, **{'of': 'baseline', **row})


study = dict(
    folds=3,
    seeds=[42, 7, 8],
    rows=[
        train('recipe', recipe, folds=[0, 1, 2], seeds=[42, 7, 8]),
        train('recipe, batch 1', {**recipe, 'train_dataloader.batch_size': 1}),
        train('two square anchors', {
            f'{RPN}.anchor_generator.scales': [2, 3],
            f'{RPN}.anchor_generator.ratios': [1.0]}),
        train('square anchors', {f'{RPN}.anchor_generator.ratios': [1.0]}),
        train('input 1.5x', {TRAIN: scaled(1.5, 1.5), TEST: resized(1.5)}, cost=1),
        train('crop 384', {TRAIN: crop(384)}),
        train('batch 4', {'train_dataloader.batch_size': 4}),
        train('peak rate 2e-3', {'optim_wrapper.optimizer.lr': 2e-3}, cost=1),
        train('peak rate 5e-4', {'optim_wrapper.optimizer.lr': 5e-4}, cost=1),
        train('peak rate 3e-4', {'optim_wrapper.optimizer.lr': 3e-4}, cost=1),
        train('one-cycle', {'param_scheduler': [one_cycle]}, cost=1),
        train('EMA', {'custom_hooks': [*hooks, bf16, dict(
            type='EMAHook', momentum=0.03, update_buffers=True)]}, cost=1),
        train('GN', {'model.backbone.norm_cfg': dict(
            type='GN', num_groups=32, requires_grad=True)}),
        train('64 RoIs', {'model.train_cfg.rcnn.sampler.num': 64}),
        train('mask head of 2 convs', {f'{ROI}.mask_head.num_convs': 2}),
        train('one box and mask for all classes', agnostic),
        train('repeat factors', {'train_dataloader.dataset': dict(
            type='SeededDataset', dataset=dict(
                type='ClassBalancedDataset', oversample_thr=0.3,
                dataset=data))}, cost=1),
        train('class weights', {
            f'{ROI}.bbox_head.loss_cls.class_weight': [1, 1, 3, 3, 1]}, cost=1),
        train('dihedral', {TRAIN: instead('RandomFlip', _base_.dihedral)}, cost=1),
        test('test: flips and rotations (TTA)', {}, tta=True, folds=[0, 1, 2]),
        test('test: score from .001', {f'{RCNN}.score_thr': 0.001}),
        test('test: NMS .3', {f'{RCNN}.nms.iou_threshold': 0.3}),
        test('test: tiles of 384', {
            'model.type': 'TiledDetector', 'model.tile_size': 384,
            'model.overlap': 128, 'model.tile_batch': 4}),
        test('test: input 1.5x', {TEST: resized(1.5)}),
        test('test: 100 detections', {f'{RCNN}.max_per_img': 100}),
        test('recipe, flips and rotations (TTA)', {}, of='recipe', tta=True,
             against='recipe', folds=[0, 1, 2]),
        train('recipe, batch 8', {**recipe, 'train_dataloader.batch_size': 8},
              against='recipe'),
        train('copy-paste, rare classes first', {
            'train_dataloader.dataset': with_copy_paste(
                class_weights=_base_.class_weights)}),
        train('half of the RoIs positive', {
            'model.train_cfg.rcnn.sampler.pos_fraction': 0.5}),
        train('features at stride 2', stride_2),
        train('stain jitter', {
            TRAIN: before('PackDetInputs', _base_.hed_jitter)}, cost=1),
        train('stain normalisation', {
            TRAIN: normalized(_base_.train_pipeline),
            TEST: normalized(_base_.val_dataloader.dataset.pipeline)}, cost=1),
        train('scale jitter .7-1.4', {TRAIN: scaled(0.7, 1.4)}, cost=1),
        train('colours as stored', {
            TRAIN: as_stored(_base_.train_pipeline),
            TEST: as_stored(_base_.val_dataloader.dataset.pipeline)}, cost=1),
        train('smooth L1', {f'{ROI}.bbox_head.loss_bbox': dict(
            type='SmoothL1Loss', beta=1.0, loss_weight=1.0)}, cost=1),
        train('GIoU', {
            f'{ROI}.bbox_head.reg_decoded_bbox': True,
            f'{ROI}.bbox_head.loss_bbox': dict(
                type='GIoULoss', loss_weight=10.0)}, cost=1),
        train('cascade', cascade('Cascade', mask_head)),
        train('cascade, 200 steps', cascade('Cascade', mask_head), cost=1),
        train('input 2x', {TRAIN: scaled(2.0, 2.0), TEST: resized(2.0)}, cost=1),
        train('batch 1', {'train_dataloader.batch_size': 1}),
        train('FP32', {'custom_hooks': hooks}),
        train('frozen BN', {
            'model.backbone.norm_eval': True,
            'model.backbone.norm_cfg.requires_grad': False}),
        train('copy-paste', {'train_dataloader.dataset': with_copy_paste()},
              folds=[0, 1, 2]),
        train('recipe, copy-paste', {
            **recipe, 'train_dataloader.dataset': with_copy_paste()},
            folds=[0, 1, 2], against='recipe'),
        train('seesaw loss', {f'{ROI}.bbox_head.loss_cls': dict(
            type='SeesawLoss', p=0.8, q=2.0, num_classes=4)}, cost=1),
        train('HTC', cascade('HybridTaskCascade', [
            dict(htc_mask_head, with_conv_res=False), htc_mask_head,
            htc_mask_head], interleaved=True, mask_info_flow=True)),
    ])
