# Gray images, mean 0.5, std 0.5. Row "warmUp_smallAnchor_gray". Three
# equal channels, as torchvision repeats the gray one for the stem of the COCO weights.
_base_ = './mask-rcnn-v2_r50_fpn_50e_anchors-4-64.py'

model = dict(data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3))

# Weights of blue, green, red: ITU-R BT.601, as PIL's and torchvision's Grayscale.
gray = dict(
    type='RandomGrayscale',
    prob=1.0,
    keep_channels=True,
    channel_weights=(0.114, 0.587, 0.299))
train_pipeline, val_pipeline = (
    [_base_.load_image, gray,
     *(step for step in pipeline if step['type'] != 'LoadCellImage')]
    for pipeline in (_base_.train_pipeline, _base_.val_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
