# Your own data: edit the first block (docs/data.md says how) and train.
_base_ = '../cell/maskrcnn_r50.py'

classes = ('nucleus', )
data = dict(
    type='LabelImageDataset',  # or CellDataset, NucleiDataset, CocoCellDataset
    data_root='data/own',  # the folder that holds train/
    data_prefix=dict(img='train'),
    split='random_80-20_seed42',
    metainfo=dict(classes=classes))
channel_order = 'rgb'  # 'bgr' for files with red and blue exchanged
mpp = 0.25  # micrometres per pixel

load_image = dict(type='LoadCellImage', channel_order=channel_order)
train_pipeline, val_pipeline = (
    [load_image if step['type'] == 'LoadCellImage' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline))
train_dataloader = dict(dataset=dict(data, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data, pipeline=val_pipeline))
test_dataloader = val_dataloader
heads = dict(num_classes=len(classes))
model = dict(roi_head=dict(bbox_head=heads, mask_head=heads))
