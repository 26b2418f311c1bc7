# Ablation: images above 1024 pixels are predicted in tiles. Only the test differs: the
# checkpoints of maskrcnn_r50.py can be tested with this config.
_base_ = '../maskrcnn_r50.py'

model = dict(type='TiledDetector', tile_size=1024, overlap=256)
