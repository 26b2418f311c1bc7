"""Samplers and data sets in which a draw's number seeds its augmentation."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import DefaultSampler, InfiniteSampler, RepeatDataset


class Draw(int):
    """The index of an image, with the seed of its random augmentation.

    Args:
        index: In the data set.
        seed: Integers that no other draw of the run has; they do not depend on
            processes and workers.
    """

    seed: tuple[int, ...]

    def __new__(cls, index: int, seed: tuple[int, ...]) -> Draw:
        """An int with one attribute."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __getnewargs__(self):  # type: ignore[override]
        # Pickling for a worker process.
        return int(self), self.seed


@DATA_SAMPLERS.register_module()
class DrawSampler(DefaultSampler):
    """:class:`mmengine.dataset.DefaultSampler` that yields draws, for epoch loops.

    The images of an epoch come in the stock sampler's order, dealt out one by one to
    the processes. The stock sampler fills up the last round of the processes, this one
    the last batch of all of them, with the first images of the epoch, augmented anew.
    So an epoch is the same for 1 process with batches of 4 and 2 processes with batches
    of 2: every image comes once, and fewer than a global batch of them twice.

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
    """:class:`mmengine.dataset.InfiniteSampler` that yields draws, for iteration loops.

    The indices are the stock sampler's; ``skip`` resumes them.
    """

    def _infinite_indices(self) -> Iterator[Draw]:
        for number, index in enumerate(super()._infinite_indices()):
            yield Draw(index, (self.seed, number))


class SeededDraws:
    """Mixin of data sets: a :class:`Draw` alone decides its sample's augmentation.

    Transforms, images that are mixed in and images that replace an unusable one are the
    same whichever worker of whichever process loads the draw. The process's generators
    are restored afterwards. Plain indices are passed on.
    """

    def __getitem__(self, index: int):
        if not isinstance(index, Draw):
            return super().__getitem__(index)  # type: ignore[misc]
        with seeded_random_numbers(index.seed):
            return super().__getitem__(int(index))  # type: ignore[misc]


@DATASETS.register_module()
class SeededDataset(SeededDraws, RepeatDataset):
    """The outermost wrapper of a training set that other wrappers surround.

    ``MultiImageMixDataset`` and ``ClassBalancedDataset`` lose the seed of a draw;
    CellDataset needs no wrapper.

    Args:
        dataset: The data set's config.
    """

    def __init__(self, dataset: dict) -> None:
        super().__init__(dataset, times=1)


@contextmanager
def seeded_random_numbers(
    seed: int | Sequence[int], cuda_devices: Iterable[int] = ()
) -> Iterator[None]:
    """Seed Python, NumPy and torch; restore their generators afterwards.

    Args:
        seed: One or more integers, not negative; mixed by
            :class:`numpy.random.SeedSequence`, so that the streams of neighbouring
            seeds are independent.
        cuda_devices: Devices whose generators are seeded too. The others, and the
            driver, are not touched: worker processes of a data loader must not.
    """
    words = np.random.SeedSequence(seed).generate_state(8)
    for_torch = int.from_bytes(words[:2].tobytes(), "little")
    cuda_devices = list(cuda_devices)
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=cuda_devices):
        random.seed(words.tobytes())
        np.random.seed(words)
        # Not torch.manual_seed, which seeds every GPU.
        torch.default_generator.manual_seed(for_torch)
        for device in cuda_devices:
            torch.cuda.default_generators[device].manual_seed(for_torch)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
