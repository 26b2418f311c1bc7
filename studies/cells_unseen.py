# The recipe of studies/cells.py on data that no choice has seen: trained on all 108
# released regions, tested on 37 regions of eight other patients, whose labels are
# derived from class-coloured masks and not official. (cells_unseen.folds.json leaves out
# the three regions of a ninth patient, which are stored in true colours.)
_base_ = './cells.py'

val_dataloader = dict(dataset=dict(data_root='../shared/data/hw3'))
options = {row['name']: row['options'] for row in _base_.study.rows}
study = dict(
    folds=1,
    seeds=[42, 7, 8],
    rows=[
        # The cost that studies/cells.py measured.
        dict(name='recipe', options=_base_.recipe, seeds=[42, 7, 8], cost=1.233),
        dict(name='recipe, flips and rotations (TTA)', of='recipe', seeds=[42],
             against='recipe', tta=True, options={}),
        dict(name='recipe, stain jitter', against='recipe', cost=1.233,
             seeds=[42, 7, 8],
             options={**_base_.recipe, **options['stain jitter']}),
        dict(name='recipe, stain normalisation', against='recipe', cost=1.233,
             seeds=[42, 7, 8],
             options={**_base_.recipe, **options['stain normalisation']}),
    ])
