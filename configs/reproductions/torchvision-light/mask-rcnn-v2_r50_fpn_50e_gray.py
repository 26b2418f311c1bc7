# Report 002, row "warmUp_smallAnchor_gray": one gray channel, mean 0.5, std 0.5.
#
# The stem has one input channel, and its weights are the sum of the COCO weights over
# red, green and blue: what they would give for an image with three equal channels.
_base_ = './mask-rcnn-v2_r50_fpn_50e_anchors-4-64.py'

model = dict(
    data_preprocessor=dict(mean=[127.5], std=[127.5], bgr_to_rgb=False),
    backbone=dict(in_channels=1))

# Weights of blue, green, red: ITU-R BT.601, as PIL's and torchvision's Grayscale.
gray = dict(
    type='RandomGrayscale', prob=1.0, channel_weights=(0.114, 0.587, 0.299))
train_pipeline = [_base_.train_pipeline[0], gray, *_base_.train_pipeline[1:]]
val_pipeline = [_base_.val_pipeline[0], gray, *_base_.val_pipeline[1:]]
test_pipeline = [_base_.test_pipeline[0], gray, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
submission_dataloader = dict(dataset=dict(pipeline=test_pipeline))

report = [
    dict(
        number='002', table='experiments', row='warmUp_smallAnchor_gray',
        validation_mAP=0.3001, public_mAP=0.3537),
]
