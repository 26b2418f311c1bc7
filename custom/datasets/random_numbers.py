"""Random numbers that depend on a seed and on nothing before it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_random_numbers(
    seed: int | Sequence[int], cuda_devices: Iterable[int] = ()
) -> Iterator[None]:
    """Seed Python, NumPy and torch, and leave them afterwards as they were.

    Args:
        seed: One or more integers, not negative; mixed by
            :class:`numpy.random.SeedSequence`, so that neighbouring seeds give
            streams that have nothing in common.
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
