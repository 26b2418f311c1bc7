# Augmentation beyond the baseline's. A config puts the steps that it wants into its
# train_pipeline; docs/champion.md names their sources.
dihedral = dict(type='RandomDihedral')
hed_jitter = dict(type='RandomHEDJitter', sigma=0.1, shift=0.01)
# An instance stays unless what is pasted leaves at most 64 of its pixels and moves a
# side of its box by more than 4. (Stock: 300 and 10, for the objects of COCO.)
copy_paste = dict(
    type='LabelCopyPaste',
    max_num_pasted=50,
    bbox_occluded_thr=4,
    mask_occluded_thr=64)
