# Augmentation beyond the baseline's, for the train_pipeline of other configs;
# docs/champion.md names the sources.
dihedral = dict(type='RandomDihedral')
hed_jitter = dict(type='RandomHEDJitter', sigma=0.1, shift=0.01)
# A covered instance is removed if at most 64 of its pixels remain visible and a side of
# its box moves by more than 4 pixels. (Stock: 300 and 10, for the objects of COCO.)
copy_paste = dict(
    type='LabelCopyPaste',
    max_num_pasted=50,
    bbox_occluded_thr=4,
    mask_occluded_thr=64)
