"""Reading and indexing what is on disk; splits."""

from .cell_dataset import CellDataset
from .cell_test_dataset import CellTestDataset
from .draw_sampler import Draw, DrawSampler, InfiniteDrawSampler
from .nuclei_dataset import NucleiDataset
from .seeded_dataset import SeededDataset

__all__ = [
    "CellDataset",
    "CellTestDataset",
    "Draw",
    "DrawSampler",
    "InfiniteDrawSampler",
    "NucleiDataset",
    "SeededDataset",
]
