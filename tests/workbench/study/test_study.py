"""A study's file: rows, runs, folds, equal cost."""

from __future__ import annotations

import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

from custom.datasets.splits import Split
from custom.errors import InputError
from custom.workbench.study.study import Run, Study, append_line, merge, read_lines
from custom.workbench.synthetic import write_dataset

STUDY = """
_base_ = '{repo}/configs/demo/maskrcnn_r18-slim.py'
{more}
study = dict(folds={folds}, seeds=[1, 2], rows=[{rows}])
"""


@pytest.fixture
def study(repo, tmp_path, tiny_root, monkeypatch):
    """Write a study with the given rows and load it."""
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.chdir(tmp_path)

    def load(rows: str, folds: int = 2, more: str = "") -> Study:
        path = tmp_path / "some.py"
        path.write_text(STUDY.format(repo=repo, rows=rows, folds=folds, more=more))
        return Study.load(path)

    return load


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("dict(name='a', option={})", "unknown keys"),
        ("dict(name='baseline')", "no name of its own"),
        ("dict(name='a', of='b')", "names 'b'"),
    ],
)
def test_a_row_that_cannot_be_run_is_refused(study, rows, reason):
    with pytest.raises(InputError, match=reason):
        study(rows)


def test_first_seeds_run_first_and_tests_after_the_training(study):
    runs = study("dict(name='t', of='baseline'), dict(name='a', folds=[1])").runs()
    names = [(run.row, run.fold, run.seed) for run in runs]
    assert names[:5] == [
        ("baseline", 0, 1),
        ("baseline", 1, 1),
        ("t", 0, 1),
        ("t", 1, 1),
        ("a", 1, 1),
    ]
    assert {seed for _, _, seed in names[5:]} == {2}


def test_a_row_of_twice_the_cost_takes_half_of_the_steps(study):
    loaded = study("dict(name='a', cost=2), dict(name='b')")
    loaded.save_costs({"b": {"ratio": 1.5}})
    steps = [
        loaded.config(Run(row, 0, 1)).train_cfg.max_iters
        for row in ("baseline", "a", "b")
    ]
    assert steps == [300, 150, 200]


def test_lines_of_another_budget_are_refused(study):
    loaded = study("dict(name='a', cost=2)")
    append_line(loaded.results, {"row": "a", "fold": 0, "seed": 1, "steps": 150})
    assert list(loaded.lines()) == [Run("a", 0, 1)]
    append_line(loaded.results, {"row": "a", "fold": 1, "seed": 1, "steps": 300})
    with pytest.raises(InputError, match="300 steps; the study now says 150"):
        loaded.lines()


def test_the_config_of_a_run_has_its_fold_seed_and_options(study):
    loaded = study("dict(name='a', cost=1, options={'optim_wrapper.optimizer.lr': 2})")
    cfg = loaded.config(Run("a", 1, 2))
    assert cfg.optim_wrapper.optimizer.lr == 2
    assert cfg.randomness.seed == 2
    path = cfg.train_dataloader.dataset.split
    assert Split.load(path).val == loaded.splits()[1].val
    assert cfg.test_dataloader.dataset.split == path


def test_a_run_has_its_fold_inside_of_a_wrapped_data_set(study):
    wrapped = "dict(type='RepeatDataset', dataset=_base_.train_dataloader.dataset)"
    loaded = study(
        f"dict(name='a', cost=1, options={{'train_dataloader.dataset': {wrapped}}})"
    )
    cfg = loaded.config(Run("a", 1, 1))
    path = cfg.train_dataloader.dataset.dataset.split
    assert Split.load(path).val == loaded.splits()[1].val


def test_one_fold_trains_on_all_images_and_tests_on_those_of_another_folder(
    study, tmp_path
):
    write_dataset(tmp_path / "unseen", n_train=5, n_test=1, size=96)
    loaded = study("", 1, "val_dataloader = dict(dataset=dict(data_root='unseen'))")
    cfg = loaded.config(Run("baseline", 0, 1))
    cfg.merge_from_dict({"train_dataloader.dataset.pipeline": []})
    train, test = (
        DATASETS.build(loader.dataset)
        for loader in (cfg.train_dataloader, cfg.test_dataloader)
    )
    assert len(train) == 6
    assert len(test) == len(loaded.groups()) == 5


def test_every_image_is_validated_once_and_a_group_lies_in_one_fold(study):
    loaded = study("")
    folds = loaded.splits()
    assert sorted(name for fold in folds for name in fold.val) == sorted(
        folds[0].train + folds[0].val
    )
    groups = loaded.groups()
    assert not {groups[n] for n in folds[0].val} & {groups[n] for n in folds[1].val}


def test_lines_of_rows_that_are_gone_are_left_alone(tmp_path):
    path = tmp_path / "some.jsonl"
    for row in ("a", "gone"):
        append_line(path, {"row": row, "fold": 0, "seed": 1})
    assert list(read_lines(path, ["a"])) == [Run("a", 0, 1)]
    path.write_text("{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_lines(path, ["a"])


def test_the_recipe_of_the_study_is_the_config_of_that_name(repo, monkeypatch):
    monkeypatch.chdir(repo)
    row = Study.load("studies/cells.py").rows["recipe"]
    cfg = Config.fromfile("configs/demo/maskrcnn_r18-slim_fast.py")
    base = Config.fromfile("configs/demo/maskrcnn_r18-slim.py")
    merge(base, row.options)
    assert cfg.to_dict() == base.to_dict()
