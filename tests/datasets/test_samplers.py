"""Samples follow their draw: any number of processes and workers, also resumed."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler, sampler
from mmengine.registry import init_default_scope

from custom.datasets import Draw, DrawSampler, InfiniteDrawSampler
from custom.engine.runner import CellRunner
from custom.errors import InputError


def of_rank(kind, rank: int, world_size: int, size: int, **kwargs):
    """A sampler as one process of several builds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "get_dist_info", lambda: (rank, world_size))
        return kind(range(size), seed=5, **kwargs)


def keys(draws) -> list[tuple]:
    return [(int(draw), draw.seed) for draw in draws]


def global_batches(samplers, batch_size: int, count: int) -> list[list[tuple]]:
    """What all processes together see in each iteration, in the order of the draws."""
    streams = [iter(s) for s in samplers]
    return [
        sorted(
            (key for s in streams for key in keys(itertools.islice(s, batch_size))),
            key=lambda key: key[1],
        )
        for _ in range(count)
    ]


shapes = {
    "size": st.integers(1, 40),
    "world_size": st.integers(1, 4),
    "batch_size": st.integers(1, 4),
}


@settings(max_examples=200, deadline=None)
@given(epoch=st.integers(0, 5), **shapes)
def test_epoch_is_that_of_one_process_with_the_global_batch(
    size, world_size, batch_size, epoch
):
    ranks = [
        of_rank(DrawSampler, r, world_size, size, batch_size=batch_size)
        for r in range(world_size)
    ]
    alone = of_rank(DrawSampler, 0, 1, size, batch_size=world_size * batch_size)
    for s in (*ranks, alone):
        s.set_epoch(epoch)
    assert len({len(s) for s in ranks}) == 1  # or one would wait for the others
    assert all(len(list(s)) == len(s) for s in (*ranks, alone))
    count = -(-size // (world_size * batch_size))
    assert len(ranks[0]) == count * batch_size
    expected = global_batches([alone], world_size * batch_size, count)
    assert global_batches(ranks, batch_size, count) == expected
    indices = [index for batch in expected for index, _ in batch]
    assert sorted(indices[:size]) == list(range(size))
    assert indices[size:] == (indices[:size] * len(indices))[: len(indices) - size]


@settings(max_examples=50, deadline=None)
@given(epochs=st.sets(st.integers(0, 9), min_size=2), **shapes)
def test_no_two_draws_of_a_run_have_one_seed(size, world_size, batch_size, epochs):
    seeds = []
    for rank in range(world_size):
        s = of_rank(DrawSampler, rank, world_size, size, batch_size=batch_size)
        for epoch in epochs:
            s.set_epoch(epoch)
            seeds += [draw.seed for draw in s]
    assert len(seeds) == len(set(seeds))


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40), rank=st.integers(0, 2), epoch=st.integers(0, 3))
def test_order_is_the_stock_samplers(size, rank, epoch):
    result, expected = (
        of_rank(kind, rank, 3, size) for kind in (DrawSampler, DefaultSampler)
    )
    result.set_epoch(epoch), expected.set_epoch(epoch)
    assert list(result) == list(expected) and len(result) == len(expected)
    result, expected = (
        of_rank(kind, rank, 3, size) for kind in (InfiniteDrawSampler, InfiniteSampler)
    )
    first = [list(itertools.islice(s, 50)) for s in (result, expected)]
    assert first[0] == first[1]


@pytest.mark.skipif(
    not hasattr(InfiniteSampler, "skip"),
    reason="mmengine 0.10.7 loads the samples that a resumed run skips",
)
@settings(max_examples=50, deadline=None)
@given(steps=st.integers(0, 30), **shapes)
def test_infinite_stream_is_shared_and_skip_resumes_it(
    size, world_size, batch_size, steps
):
    def ranks():
        return [
            of_rank(InfiniteDrawSampler, r, world_size, size) for r in range(world_size)
        ]

    total = world_size * batch_size
    alone = of_rank(InfiniteDrawSampler, 0, 1, size)
    expected = global_batches([alone], total, steps + 5)
    assert global_batches(ranks(), batch_size, steps + 5) == expected
    resumed = ranks()
    for s in resumed:
        s.skip(steps * batch_size)
    assert global_batches(resumed, batch_size, 5) == expected[steps:]
    # Also on another number of processes, if the global batch is the same.
    alone = of_rank(InfiniteDrawSampler, 0, 1, size)
    alone.skip(steps * total)
    assert global_batches([alone], total, 5) == expected[steps:]


def test_draw_is_an_index_and_keeps_its_seed_on_the_way_to_a_worker():
    draw = pickle.loads(pickle.dumps(Draw(3, (42, 0, 7))))
    assert type(draw) is Draw and draw == 3 and draw.seed == (42, 0, 7)
    assert "abcd"[draw] == "d"


# --- loaders ---

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskrcnn_r18-slim.py"
# All random transforms of this project, and some of the stock ones.
GEOMETRY = [
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
    {"type": "RandomBlend", "target": "gray", "weight_range": (0.5, 1.5)},
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
    cells["pipeline"] = [*cells["pipeline"][:2], *GEOMETRY]
    balanced = {"type": "ClassBalancedDataset", "oversample_thr": 0.9, "dataset": cells}
    mixed = {"type": "MultiImageMixDataset", "dataset": balanced, "pipeline": MIXED}
    loader["dataset"] = {"type": "SeededDataset", "dataset": mixed}
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


def test_config_keeps_its_form_and_other_samplers_go_the_stock_way(loader):
    config = {**loader, "num_workers": 0, "sampler": {"type": "DrawSampler"}}
    before = repr(config)
    built = CellRunner.build_dataloader(config, seed=1)
    assert repr(config) == before
    assert isinstance(built.sampler, DrawSampler)
    assert built.sampler.num_samples % config["batch_size"] == 0
    assert built.dataset.metainfo["classes"][0] == "class1"
    config["sampler"] = {"type": "InfiniteDrawSampler"}
    wrapper = config["dataset"]["dataset"]
    with pytest.raises(InputError, match=r"MultiImageMixDataset loses the seeds"):
        CellRunner.build_dataloader({**config, "dataset": wrapper})
    assert isinstance(CellRunner.build_dataloader(config).sampler, InfiniteDrawSampler)
    for kind in (DefaultSampler, InfiniteSampler):
        config["sampler"] = {"type": kind.__name__}
        built = CellRunner.build_dataloader(config, seed=1)
        assert type(built.sampler) is kind
        assert type(built.dataset).__name__ == "SeededDataset"
