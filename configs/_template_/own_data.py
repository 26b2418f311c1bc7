# Your own data: edit the first block (docs/own_data.md says how) and train.
_base_ = '../cell/maskrcnn_r50.py'

data_root = 'data/own'  # the folder that holds train/
layout = 'LabelImageDataset'  # or CellDataset, NucleiDataset, CocoCellDataset
classes = ('nucleus', )
channel_order = 'rgb'  # 'bgr' for files with red and blue exchanged
mpp = 0.25  # micrometres per pixel

data = dict(type=layout, data_root=data_root, split='random_80-20_seed42')
data.update(data_prefix=dict(img='train'), metainfo=dict(classes=classes))
load_image = dict(type='LoadCellImage', channel_order=channel_order)
train_pipeline, val_pipeline = (
    [load_image if step['type'] == 'LoadCellImage' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline))
train_dataloader = dict(dataset=dict(data, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data, pipeline=val_pipeline))
test_dataloader = val_dataloader
num_classes = len(classes)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(num_classes=num_classes)))
