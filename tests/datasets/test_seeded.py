"""A sample follows its draw, not the worker, the process or what came before."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from custom.datasets import DrawSampler, InfiniteDrawSampler
from custom.datasets.samplers import seeded_random_numbers
from custom.engine.runner import CellRunner

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskrcnn_r18-slim.py"
# Everything in this project that draws, and some of the stock transforms.
OWN = [
    {"type": "RandomScale", "factor_range": (0.5, 2.0)},
    {
        "type": "RandomCrop",
        "crop_size": (64, 64),
        "allow_negative_crop": True,
        "recompute_bbox": True,
    },
    {"type": "FilterAnnotations", "min_gt_bbox_wh": (0, 0), "keep_empty": False},
    {"type": "RandomDihedral"},
]
MIXED = [
    {"type": "LabelCopyPaste", "max_num_pasted": 5, "class_weights": [1, 1, 9, 9]},
    {"type": "RandomHEDJitter", "sigma": 0.1, "shift": 0.01},
    {"type": "RandomSaturation", "intensity_range": (0.5, 1.5)},
    {"type": "PhotoMetricDistortion"},
    {"type": "PackDetInputs"},
]


@pytest.fixture(scope="module")
def loader(tiny_root) -> dict:
    """The demo's loader with copy-paste, class balance and every augmentation."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIG)
    loader = cfg.train_dataloader.to_dict()
    cells = {**loader["dataset"], "data_root": str(tiny_root), "split": "all"}
    # The first two steps load.
    cells["pipeline"] = [*cells["pipeline"][:2], *OWN]
    loader["dataset"] = {
        "type": "MultiImageMixDataset",
        "dataset": {
            "type": "ClassBalancedDataset",
            "oversample_thr": 0.9,
            "dataset": cells,
        },
        "pipeline": MIXED,
    }
    return {**loader, "batch_size": 4, "persistent_workers": False}


def build(loader: dict, rank=0, world_size=1, build=CellRunner.build_dataloader, **kw):
    """A data loader as one process of several builds it."""
    loader = {**loader, "num_workers": 0, **kw}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mmengine.dataset.sampler.get_dist_info", lambda: (rank, world_size)
        )
        return build(loader, seed=42)


def samples(batch: dict) -> list[tuple]:
    """The arrays of each sample of a batch."""
    return [
        (
            sample.img_id,
            image.numpy(),
            sample.gt_instances.bboxes.tensor.numpy(),
            sample.gt_instances.labels.numpy(),
            sample.gt_instances.masks.to_ndarray(),
        )
        for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True)
    ]


def take(loader, count: int) -> list[list[tuple]]:
    return [samples(batch) for batch in itertools.islice(loader, count)]


def same(a, b) -> bool:
    return all(
        np.array_equal(x, y)
        for one, other in zip(a, b, strict=True)
        for sample, twin in zip(one, other, strict=True)
        for x, y in zip(sample, twin, strict=True)
    )


def interleaved(first, second) -> list[list[tuple]]:
    """The batches of two processes in the order of the draws."""
    return [
        [sample for pair in zip(*batches, strict=True) for sample in pair]
        for batches in zip(first, second, strict=True)
    ]


@pytest.mark.parametrize("sampler", ["DrawSampler", "InfiniteDrawSampler"])
def test_batches_do_not_depend_on_workers_processes_and_history(loader, sampler):
    loader = {**loader, "sampler": {"type": sampler}}
    expected = take(build(loader), 2)
    assert len(expected) == 2 and len({s[0] for batch in expected for s in batch}) > 2
    assert same(take(build(loader, num_workers=3), 2), expected)
    two = [
        take(build(loader, rank, 2, num_workers=rank, batch_size=2), 2)
        for rank in (0, 1)
    ]
    assert same(interleaved(*two), expected)


def test_stock_loader_depends_on_workers(loader):
    # What the test above would miss if it compared nothing.
    loader = {**loader, "sampler": {"type": "InfiniteSampler"}}
    stock = Runner.build_dataloader
    first = take(build(loader, build=stock, num_workers=1), 2)
    second = take(build(loader, build=stock, num_workers=2), 2)
    assert [[s[0] for s in b] for b in first] == [[s[0] for s in b] for b in second]
    assert not same(first, second)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_stream_goes_on_where_it_was(loader, workers):
    loader = {**loader, "sampler": {"type": "InfiniteDrawSampler"}}
    expected = take(build(loader), 4)
    resumed = build(loader, num_workers=workers)
    resumed.sampler.skip(3 * loader["batch_size"])
    assert same(take(resumed, 1), expected[3:])


def test_second_epoch_is_another_and_can_be_entered_at_once(loader):
    loader = {**loader, "sampler": {"type": "DrawSampler"}}
    first = build(loader, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in range(2):
        first.sampler.set_epoch(epoch)
        epochs.append(take(first, 99))
    resumed = build(loader)
    resumed.sampler.set_epoch(1)
    assert same(take(resumed, 99), epochs[1])
    drawn = [{s[0]: s[1] for batch in epoch for s in batch} for epoch in epochs]
    assert all(not np.array_equal(drawn[0][k], drawn[1][k]) for k in drawn[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_generators_of_the_model_alone(loader, workers):
    def state():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    loader = build(loader, num_workers=workers)
    seed()
    expected = state()
    seed()
    take(loader, 1)
    assert state() == expected


def test_seeds_that_differ_in_one_number_give_other_draws():
    def draw(seed) -> tuple:
        with seeded_random_numbers(seed):
            return random.random(), np.random.rand(), torch.rand(1).item()

    seeds = [0, 1, (42, 0, 1), (42, 1, 0), (42, 0, 2), (43, 0, 1)]
    columns = list(zip(*map(draw, seeds), strict=True))
    assert all(len(set(column)) == len(seeds) for column in columns)
    assert draw(seeds[2]) == draw(seeds[2])


def test_config_keeps_its_form_and_other_samplers_go_the_stock_way(loader):
    config = {**loader, "num_workers": 0, "sampler": {"type": "DrawSampler"}}
    before = repr(config)
    built = CellRunner.build_dataloader(config, seed=1)
    assert repr(config) == before
    assert isinstance(built.sampler, DrawSampler)
    assert built.sampler.num_samples % config["batch_size"] == 0
    assert built.dataset.metainfo["classes"][0] == "class1"
    config["sampler"] = {"type": "InfiniteDrawSampler"}
    assert isinstance(CellRunner.build_dataloader(config).sampler, InfiniteDrawSampler)
    for kind in (DefaultSampler, InfiniteSampler):
        config["sampler"] = {"type": kind.__name__}
        built = CellRunner.build_dataloader(config, seed=1)
        assert type(built.sampler) is kind
        assert type(built.dataset).__name__ == "MultiImageMixDataset"
