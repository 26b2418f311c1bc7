# The ablation study: what helps the slim R18 at equal processor time, on the released
# regions with official labels (docs/study.md).
_base_ = [
    '../configs/demo/maskrcnn_r18-slim.py',
    '../configs/_base_/datasets/augmentations.py',
]

data_root = '../shared/data/hw3_official'
# Steps of the baseline. A row whose step costs more takes fewer.
train_cfg = dict(max_iters=150, val_interval=10_000)
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
RCNN = 'model.test_cfg.rcnn'
HEAD = 'model.roi_head.bbox_head'


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


def resized(factor):
    """The test pipeline on enlarged images."""
    return [
        dict(s, scale_factor=factor) if s['type'] == 'Resize' else s
        for s in _base_.val_dataloader.dataset.pipeline
    ]


def train(name, options, **row):
    """A row that trains."""
    return dict(dict(folds=[0, 1], seeds=[42]), name=name, options=options, **row)


def test(name, options, **row):
    """A row that tests the baseline's models in another way."""
    return train(name, options, of='baseline', **row)


study = dict(
    folds=3,
    seeds=[42, 7, 8],
    rows=[
        train('peak rate 2e-3', {'optim_wrapper.optimizer.lr': 2e-3}, cost=1),
        train('two square anchors', {
            'model.rpn_head.anchor_generator.scales': [2, 3],
            'model.rpn_head.anchor_generator.ratios': [1.0]}),
        train('input 1.5x', {
            TRAIN: before('RandomCrop', dict(
                type='RandomScale', factor_range=(1.5, 1.5))),
            TEST: resized(1.5)}, cost=1),
        test('test: score from .001', {f'{RCNN}.score_thr': 0.001}),
        test('test: score from .3', {f'{RCNN}.score_thr': 0.3}),
        test('test: NMS .3', {f'{RCNN}.nms.iou_threshold': 0.3}),
        test('test: NMS .6', {f'{RCNN}.nms.iou_threshold': 0.6}),
        test('test: 100 detections', {f'{RCNN}.max_per_img': 100}),
        test('test: flips and rotations (TTA)', {}, tta=True),
        test('test: tiles of 384', {
            'model.type': 'TiledDetector', 'model.tile_size': 384,
            'model.overlap': 128, 'model.tile_batch': 4}),
        test('test: input 1.5x', {TEST: resized(1.5)}),
        train('batch 1', {'train_dataloader.batch_size': 1}),
        train('EMA', {'custom_hooks': [*hooks, bf16, dict(
            type='EMAHook', momentum=0.03, update_buffers=True)]}, cost=1),
        train('dihedral', {TRAIN: instead('RandomFlip', _base_.dihedral)}, cost=1),
        train('input 2x', {
            TRAIN: before('RandomCrop', dict(
                type='RandomScale', factor_range=(2.0, 2.0))),
            TEST: resized(2.0)}, cost=1),
        train('64 RoIs', {'model.train_cfg.rcnn.sampler.num': 64}),
        train('half of the RoIs positive', {
            'model.train_cfg.rcnn.sampler.pos_fraction': 0.5}),
        train('crop 384', {TRAIN: crop(384)}),
        train('FP32', {'custom_hooks': hooks}),
        train('GN', {'model.backbone.norm_cfg': dict(
            type='GN', num_groups=32, requires_grad=True)}),
        train('batch 4', {'train_dataloader.batch_size': 4}),
        train('scale jitter .7-1.4', {TRAIN: before('RandomCrop', dict(
            type='RandomScale', factor_range=(0.7, 1.4)))}, cost=1),
        train('stain jitter', {
            TRAIN: before('PackDetInputs', _base_.hed_jitter)}, cost=1),
        train('seesaw loss', {f'{HEAD}.loss_cls': dict(
            type='SeesawLoss', p=0.8, q=2.0, num_classes=4)}, cost=1),
        train('class weights', {f'{HEAD}.loss_cls.class_weight': [1, 1, 3, 3, 1]},
              cost=1),
        train('GIoU', {
            f'{HEAD}.reg_decoded_bbox': True,
            f'{HEAD}.loss_bbox': dict(type='GIoULoss', loss_weight=10.0)}, cost=1),
        train('smooth L1', {f'{HEAD}.loss_bbox': dict(
            type='SmoothL1Loss', beta=1.0, loss_weight=1.0)}, cost=1),
        train('mask head of 2 convs', {'model.roi_head.mask_head.num_convs': 2}),
        train('colours as stored', {
            f'{part}.dataset.pipeline': [
                dict(s, channel_order='rgb') if s['type'] == 'LoadCellImage' else s
                for s in _base_[part].dataset.pipeline
            ]
            for part in ('train_dataloader', 'val_dataloader')}, cost=1),
    ])
