# The four-class task: classes, data, pipelines, evaluation and submission.
#
# Data root and split: the environment variables CELL_DATA_ROOT and CELL_SPLIT, a .json
# file or the name of a rule (custom/datasets/splits.py).
data_root = '{{$CELL_DATA_ROOT:data/hw3}}'
split = '{{$CELL_SPLIT:stratified_80-20_seed42}}'

# A class has the name of its label images, class1.tif; its category_id in a submission
# is its position in this list, from 1.
classes = ('class1', 'class2', 'class3', 'class4')
metainfo = dict(
    classes=classes,
    # Colours that stay apart under colour blindness and on H&E: Wong, Nature Methods
    # 8, 441 (2011).
    palette=[(0, 158, 115), (240, 228, 66), (86, 180, 233), (230, 159, 0)])
mpp = 0.25  # micrometres per pixel
# How often copy-paste takes a cell of each class: the first two classes have 25 times
# as many cells as the others.
class_weights = [1, 1, 25, 25]

# How the images store colours. Those of the release have red and blue exchanged;
# CELL_CHANNEL_ORDER=rgb is for images in true colours.
load_image = dict(
    type='LoadCellImage', channel_order='{{$CELL_CHANNEL_ORDER:bgr}}')
load_masks = dict(type='LoadLabelMasks')
# A cell outside of the crop has a box of size zero.
drop_empty_boxes = dict(
    type='FilterAnnotations', min_gt_bbox_wh=(0, 0), keep_empty=False)
pack = dict(type='PackDetInputs')
pack_test = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'name', 'ori_shape', 'img_shape',
               'scale_factor'))

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
    pack,
]
val_pipeline = [
    load_image,
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    # Ground truth in the original frame: loaded after the image is resized.
    load_masks,
    pack_test,
]

# Loading keeps four workers busy beside a GPU; configs/demo lowers this for two cores.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    # A sample's random augmentation follows from the seed and the sample's number, not
    # from workers and processes (docs/distributed.md).
    sampler=dict(type='DrawSampler', shuffle=True),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        data_prefix=dict(img='train'),
        metainfo=metainfo,
        split=split,
        subset='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        data_prefix=dict(img='train'),
        metainfo=metainfo,
        split=split,
        subset='val',
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = val_dataloader
# What tools/test.py --format-only predicts, by the validated pipeline.
submission_dataloader = dict(
    batch_size=1,
    num_workers=4,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CellTestDataset',
        data_root=data_root,
        ann_file='test_image_name_to_ids.json',
        data_prefix=dict(img='test_release'),
        metainfo=metainfo))

val_evaluator = [
    dict(type='CellCocoMetric', max_dets=1000),
    # PQ, AJI, Dice and F1 (docs/metrics.md).
    dict(type='CellPanopticMetric', score_thr=0.5),
]
test_evaluator = val_evaluator
# What tools/test.py --format-only writes.
submission_evaluator = dict(type='Submission', file_name='test-results.json')
