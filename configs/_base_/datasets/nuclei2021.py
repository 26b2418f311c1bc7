# The single-class task of 2021: as the four-class task, on other data.
#
# Data root and split: the environment variables NUCLEI_DATA_ROOT and NUCLEI_SPLIT.
_base_ = './cell.py'

data_root = '{{$NUCLEI_DATA_ROOT:data/nuclei2021}}'
nuclei = dict(
    type='NucleiDataset',
    data_root=data_root,
    split='{{$NUCLEI_SPLIT:random_80-20_seed42}}',
    cache_dir='{{$CELL_LABEL_CACHE:~/.cache/mmcell/labels}}')
# These images are in true colours.
load_image = dict(type='LoadCellImage', channel_order='rgb')
train_pipeline = [
    load_image if step['type'] == 'LoadCellImage' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    load_image if step['type'] == 'LoadCellImage' else step
    for step in _base_.test_pipeline
]
val_pipeline = [
    load_image if step['type'] == 'LoadCellImage' else step
    for step in _base_.val_pipeline
]
train_dataloader = dict(dataset=dict(nuclei, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(nuclei, pipeline=val_pipeline))
test_dataloader = val_dataloader
submission_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=test_pipeline,
        ann_file='test_img_ids.json',
        data_prefix=dict(img='test'),
        metainfo=dict(classes=('nucleus',), palette=[(0, 158, 115)])))
submission_evaluator = dict(file_name='answer.json')
