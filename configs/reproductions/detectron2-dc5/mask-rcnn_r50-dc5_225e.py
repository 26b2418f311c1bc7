# detectron2's Mask R-CNN R50-DC5 from ImageNet weights, Adagrad, warm-up and cosine.
_base_ = [
    '../_base_/models/mask-rcnn_r50-dc5_detectron2.py',
    '../../_base_/datasets/cell.py',
    '../_base_/datasets/half-crop.py',
    '../_base_/schedules/adagrad_225e.py',
    '../../_base_/runtime_course.py',
]

model = dict(
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.0, nms=dict(iou_threshold=0.2), max_per_img=800)))

brightness = dict(type='RandomBlend', target='black', weight_range=(0.9, 1.1))
train_pipeline = [
    _base_.load_image,
    _base_.load_masks,
    brightness,
    *_base_.half_crop,
    _base_.pack,
]
resize = dict(type='Resize', scale=(1333, 1000), keep_ratio=True)
val_pipeline = [
    _base_.load_image, resize, _base_.load_masks, _base_.pack_test
]
train_dataloader = dict(batch_size=14, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
