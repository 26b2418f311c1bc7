# The front door with ConvNeXt V2-B (arXiv 2301.00808), pre-trained and fine-tuned on
# ImageNet-1k: 108 million parameters.
_base_ = './maskrcnn_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        use_grn=True,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://mmassets.onedl.ai/mmclassification/v0/convnext-v2/'
            'convnext-v2-base_fcmae-pre_3rdparty_in1k_20230104-00a70fa4.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
