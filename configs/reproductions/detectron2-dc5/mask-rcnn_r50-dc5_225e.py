# Report 003: R50-DC5, ImageNet weights, Adagrad, warm-up and cosine, batch 14; curves
# in TensorBoard. The report gives no figure.
#
# The report does not say, and these are detectron2's defaults of mask_rcnn_R_50_DC5_3x:
# anchors of 32...512, the warm-up, the weight decay. Its code adds the augmentation
# (brightness, a quarter of the image, 608 to 800 pixels, flip). Detections are limited
# as in the front door, and the validation images are its too.
_base_ = [
    '../_base_/models/mask-rcnn_r50-dc5_detectron2.py',
    '../_base_/datasets/cell_800-1333.py',
    '../_base_/datasets/half-crop_608-800.py',
    '../_base_/schedules/adagrad_225e.py',
    '../../_base_/runtime.py',
]

train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='Brightness', min_mag=0.9, max_mag=1.1),
    *_base_.half_608_800,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    batch_size=14, num_workers=4, dataset=dict(pipeline=train_pipeline))

report = [dict(number='003', table='the system', row='mask_rcnn_R_50_DC5_3x')]
