# The champion as it predicts: in tiles of the size of its training crops. The same
# training and checkpoints; with --tta also in eight orientations.
#
#   python tools/test.py configs/cell/champion/cascade_convnextv2-b_tiles.py \
#       work_dirs/cascade_convnextv2-b/epoch_36.pth --tta --format-only
_base_ = './cascade_convnextv2-b.py'

model = dict(type='TiledDetector', tile_size=1024, overlap=256)
