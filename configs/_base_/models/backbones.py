# Backbones that a config puts in place of ResNet-50, with the channels of their stages;
# its custom_imports name custom.models.backbones.
#
# ConvNeXt V2-B (arXiv 2301.00808), pre-trained and fine-tuned on ImageNet-1k.
convnextv2_b = dict(
    type='ConvNeXt',
    use_grn=True,
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained',
        prefix='backbone.',
        checkpoint='https://mmassets.onedl.ai/mmclassification/v0/convnext-v2/'
        'convnext-v2-base_fcmae-pre_3rdparty_in1k_20230104-00a70fa4.pth'))
convnextv2_b_channels = [128, 256, 512, 1024]
# The learning rate falls from the last layers to the first; norms and biases have no
# decay. Rates and numbers of layers are those of ConvNeXt's detectors on COCO, V1 for
# lack of published ones of V2: github.com/facebookresearch/ConvNeXt, object_detection/
# configs/convnext/cascade_mask_rcnn_convnext_base_..._in1k.py (also for drop path .7)
# and mask_rcnn_convnext_tiny_..._in1k.py (drop path .4). Drop path .1 is that of V2-B's
# fine-tuning on ImageNet (TRAINING.md of ConvNeXt-V2).
convnextv2_b_decay = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(
        _delete_=True, decay_rate=0.8, decay_type='layer_wise', num_layers=12))

# ConvNeXt-T (arXiv 2201.03545), pre-trained on ImageNet-1k.
convnext_t = dict(
    type='ConvNeXt',
    depths=(3, 3, 9, 3),
    channels=(96, 192, 384, 768),
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained', checkpoint='torchvision://convnext_tiny'))
convnext_t_channels = [96, 192, 384, 768]
convnext_t_decay = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(
        _delete_=True, decay_rate=0.95, decay_type='layer_wise', num_layers=6))
