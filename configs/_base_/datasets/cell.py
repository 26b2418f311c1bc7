# The four-class task: data, pipelines, evaluation and submission.
#
# The data root is set here, once for every config: the environment variable
# CELL_DATA_ROOT, or data/hw3. The split likewise: CELL_SPLIT, a .json file or the
# name of a rule (custom/datasets/splits.py).
data_root = '{{$CELL_DATA_ROOT:data/hw3}}'
split = '{{$CELL_SPLIT:stratified_80-20_seed42}}'
# How the images store colours. Those of the release have red and blue exchanged;
# CELL_CHANNEL_ORDER=rgb is for images in true colours.
load_image = dict(
    type='LoadCellImage', channel_order='{{$CELL_CHANNEL_ORDER:bgr}}')
load_masks = dict(type='LoadLabelMasks')
# A cell of which the crop shows no pixel has a box of size zero.
drop_empty_boxes = dict(
    type='FilterAnnotations', min_gt_bbox_wh=(0, 0), keep_empty=False)

train_pipeline = [
    load_image,
    load_masks,
    dict(type='RandomScale', factor_range=(0.5, 2.0)),
    # Crops without cells stay: they teach what is not a cell.
    dict(
        type='RandomCrop',
        crop_size=(1024, 1024),
        allow_negative_crop=True,
        recompute_bbox=True),
    drop_empty_boxes,
    dict(
        type='RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'name', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
# Ground truth in the original frame: loaded after the image is resized.
val_pipeline = [*test_pipeline[:-1], load_masks, test_pipeline[-1]]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    # What chance does to a sample follows the seed and the sample's number, not
    # workers and processes (docs/distributed.md).
    sampler=dict(type='DrawSampler', shuffle=True),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        data_prefix=dict(img='train'),
        split=split,
        subset='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        data_prefix=dict(img='train'),
        split=split,
        subset='val',
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = val_dataloader
# What tools/test.py --format-only predicts.
submission_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CellTestDataset',
        data_root=data_root,
        ann_file='test_image_name_to_ids.json',
        data_prefix=dict(img='test_release'),
        pipeline=test_pipeline))

val_evaluator = [
    dict(type='CellCocoMetric', max_dets=1000),
    # PQ, AJI, Dice and F1 (docs/metrics.md).
    dict(type='CellPanopticMetric', score_thr=0.5),
]
test_evaluator = val_evaluator
# What tools/test.py --format-only writes.
submission_evaluator = dict(type='Submission', file_name='test-results.json')
