# The demo in tiles of 384²: it is trained on crops of 256². Test its checkpoints with
# this config, and with --tta for flips and rotations in each tile.
_base_ = './maskrcnn_r18-slim.py'

model = dict(type='TiledDetector', tile_size=384, overlap=128, tile_batch=4)
