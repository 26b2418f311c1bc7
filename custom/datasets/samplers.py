"""Samplers of training images whose every draw knows its place in the run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler, InfiniteSampler


class Draw(int):
    """The index of an image, and the seed of what chance does to it.

    Args:
        index: In the data set.
        seed: Integers that no other draw of the run has; they say nothing about
            processes and workers.
    """

    seed: tuple[int, ...]

    def __new__(cls, index: int, seed: tuple[int, ...]) -> Draw:
        """An int with one attribute."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:
        # On its way to a worker process.
        return int(self), self.seed


@DATA_SAMPLERS.register_module()
class DrawSampler(DefaultSampler):
    """:class:`mmengine.dataset.DefaultSampler` that gives draws, for loops of epochs.

    The images of an epoch come in the stock sampler's order, dealt out one by one to
    the processes. The stock sampler fills up the last round of the processes, this one
    the last batch of all of them, with the first images of the epoch (which are then
    augmented another way). So an epoch is the same for 1 process with batches of 4 and
    2 processes with batches of 2: every image comes once, and fewer than a global
    batch of them twice.

    Args:
        batch_size: Images of a batch of one process; CellRunner gives it.
    """

    def __init__(self, *args, batch_size: int = 1, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        batches = math.ceil(len(self.dataset) / (self.world_size * batch_size))
        self.num_samples = batches * batch_size
        self.total_size = self.num_samples * self.world_size

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process in the epoch that ``set_epoch`` has set."""
        epoch = self.epoch
        positions = range(self.rank, self.total_size, self.world_size)
        for index, position in zip(super().__iter__(), positions, strict=True):
            yield Draw(index, (self.seed, epoch, position))


@DATA_SAMPLERS.register_module()
class InfiniteDrawSampler(InfiniteSampler):
    """:class:`mmengine.dataset.InfiniteSampler` that gives draws, for loops of steps.

    The indices are the stock sampler's; ``skip`` resumes them.
    """

    def _infinite_indices(self) -> Iterator[Draw]:
        for number, index in enumerate(super()._infinite_indices()):
            yield Draw(index, (self.seed, number))
