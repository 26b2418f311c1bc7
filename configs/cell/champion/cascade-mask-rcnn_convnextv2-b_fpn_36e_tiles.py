# The champion as it predicts: in tiles of the size of its training crops. The same
# training and checkpoints; with --tta also in eight orientations.
#
#   python tools/test.py \
#       configs/cell/champion/cascade-mask-rcnn_convnextv2-b_fpn_36e_tiles.py \
#       work_dirs/cascade-mask-rcnn_convnextv2-b_fpn_36e/epoch_36.pth --tta --format-only
_base_ = './cascade-mask-rcnn_convnextv2-b_fpn_36e.py'

model = dict(type='TiledDetector', tile_size=1024, overlap=256)
