# The augmentation of the two detectron2 systems, between loading and packing: a crop of
# half the height and half the width, resized so that its shorter side becomes 608
# pixels unless the longer one would exceed 800; a horizontal flip.
half_crop = [
    dict(
        type='RandomCrop',
        crop_type='relative',
        crop_size=(0.5, 0.5),
        allow_negative_crop=True,
        recompute_bbox=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(0, 0), keep_empty=False),
    dict(type='Resize', scale=(800, 608), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
]
