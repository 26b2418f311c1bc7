"""Draws are the same for any number of processes, and go on after a resume."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler, InfiniteSampler, sampler

from custom.datasets import Draw, DrawSampler, InfiniteDrawSampler


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
@given(**shapes)
def test_seed_of_a_draw_does_not_know_the_batch(size, world_size, batch_size):
    s = of_rank(DrawSampler, 0, world_size, size, batch_size=batch_size)
    alone = of_rank(DrawSampler, 0, 1, size)
    s.set_epoch(3), alone.set_epoch(3)
    shared = range(0, size, world_size)
    assert keys(s)[: len(shared)] == [keys(alone)[i] for i in shared]


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40), rank=st.integers(0, 2), epoch=st.integers(0, 3))
def test_order_is_the_stock_samplers(size, rank, epoch):
    found, expected = (
        of_rank(kind, rank, 3, size) for kind in (DrawSampler, DefaultSampler)
    )
    found.set_epoch(epoch), expected.set_epoch(epoch)
    assert list(found) == list(expected) and len(found) == len(expected)
    found, expected = (
        of_rank(kind, rank, 3, size) for kind in (InfiniteDrawSampler, InfiniteSampler)
    )
    first = [list(itertools.islice(s, 50)) for s in (found, expected)]
    assert first[0] == first[1]


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(0, 30), **shapes)
def test_infinite_stream_is_shared_and_skip_goes_on(
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
