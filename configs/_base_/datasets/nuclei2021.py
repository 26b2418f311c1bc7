# The single-class task of 2021: the pipelines of the four-class task on other data.
#
# Data root and split: the environment variables NUCLEI_DATA_ROOT and NUCLEI_SPLIT.
_base_ = './cell.py'

data_root = '{{$NUCLEI_DATA_ROOT:data/nuclei2021}}'
split = '{{$NUCLEI_SPLIT:random_80-20_seed42}}'
classes = ('nucleus', )
metainfo = dict(classes=classes, palette=[(0, 158, 115)])
class_weights = [1]
# These images are in true colours.
load_image = dict(type='LoadCellImage', channel_order='rgb')
train_pipeline, val_pipeline = (
    [load_image if step['type'] == 'LoadCellImage' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline))

nuclei = dict(
    type='NucleiDataset',
    data_root=data_root,
    metainfo=metainfo,
    split=split,
    cache_dir='{{$CELL_LABEL_CACHE:~/.cache/mmcell/labels}}')
train_dataloader = dict(dataset=dict(nuclei, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(nuclei, pipeline=val_pipeline))
test_dataloader = val_dataloader
submission_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='test_img_ids.json',
        data_prefix=dict(img='test'),
        metainfo=metainfo))
submission_evaluator = dict(file_name='answer.json')
