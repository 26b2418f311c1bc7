# What the champion adds to the training of the front door, part by part; a config puts
# those it wants where it wants them. docs/champion.md names the sources.
dihedral = dict(type='RandomDihedral')
hed_jitter = dict(type='RandomHEDJitter', sigma=0.1, shift=0.01)

# An instance stays unless what is pasted leaves at most 64 of its pixels and moves a
# side of its box by more than 4. (Stock: 300 and 10, for the objects of COCO.)
copy_paste = dict(
    type='LabelCopyPaste',
    max_num_pasted=50,
    bbox_occluded_thr=4,
    mask_occluded_thr=64)
# There are 25 cells of the first two classes for one of the others.
copy_paste_rare = dict(copy_paste, class_weights=[1, 1, 25, 25])

# An image that holds a class which fewer than 30 % of the images have comes more often:
# repeat factors of LVIS (Gupta et al., arXiv 1908.03195).
oversample_thr = 0.3

# Weights of about the last 1,000 iterations, fewer at the beginning; what is validated
# and saved.
ema = dict(
    type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001, gamma=500,
    update_buffers=True)
