# What can be changed when a trained model predicts: the slim R18 in FP32, trained on
# 87 of the released regions, on the 21 others of its split (docs/study.md).
_base_ = '../configs/demo/maskrcnn_r18-slim.py'

data_root = '../shared/data/hw3_official'
train_cfg = dict(max_iters=500)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
custom_hooks = []
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])

RCNN = 'model.test_cfg.rcnn'
RPN = 'model.test_cfg.rpn'
resized = [
    dict(step, scale_factor=1.5) if step['type'] == 'Resize' else step
    for step in _base_.val_dataloader.dataset.pipeline
]


def test(name, options, **row):
    """A row that tests the model in another way."""
    return dict(
        name=name, of='baseline', against='as trained', folds=[0], options=options,
        **row)


study = dict(
    folds=2,
    seeds=[42],
    rows=[
        # Scores from .05, NMS .5, 1,000 proposals, 1,000 detections.
        dict(test('as trained', {}), against='baseline'),
        test('scores from .001', {f'{RCNN}.score_thr': 0.001}),
        test('NMS .3', {f'{RCNN}.nms.iou_threshold': 0.3}),
        test('input 1.5x', {'val_dataloader.dataset.pipeline': resized}),
        test('scores from .3', {f'{RCNN}.score_thr': 0.3}),
        test('100 detections', {f'{RCNN}.max_per_img': 100}),
        test('tiles of 384', {
            'model.type': 'TiledDetector', 'model.tile_size': 384,
            'model.overlap': 128, 'model.tile_batch': 1}),
        test('two views (TTA)', {
            'tta_views.elements': ['identity', 'horizontal']}, tta=True),
        test('NMS .6', {f'{RCNN}.nms.iou_threshold': 0.6}),
        test('RPN NMS .5', {f'{RPN}.nms.iou_threshold': 0.5}),
        test('500 proposals', {f'{RPN}.max_per_img': 500}),
    ])
