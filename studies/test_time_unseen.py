# What studies/test_time.py speaks for, on regions of other patients, which no choice
# has seen. Their labels are derived from class-coloured masks, not official.
_base_ = './test_time.py'

data_root = '../shared/data/hw3'
val_dataloader = dict(dataset=dict(data_root=data_root))
train_dataloader = dict(dataset=dict(data_root=data_root))

study = dict(
    folds=2,
    seeds=[42],
    rows=[
        dict(name='as trained', of='baseline', folds=[0], options={}),
        dict(
            name='scores from .001, NMS .3, two views (TTA)',
            of='baseline', against='as trained', folds=[0], tta=True,
            options={
                'model.test_cfg.rcnn.score_thr': 0.001,
                'model.test_cfg.rcnn.nms.iou_threshold': 0.3,
                'tta_views.elements': ['identity', 'horizontal'],
            }),
    ])
