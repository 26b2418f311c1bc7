"""Reading and indexing what is on disk; splits."""

from custom.datasets.cell import CellDataset
from custom.datasets.cell_test import CellTestDataset
from custom.datasets.nuclei import NucleiDataset
from custom.datasets.samplers import Draw, DrawSampler, InfiniteDrawSampler
from custom.datasets.seeded import SeededDataset

__all__ = [
    "CellDataset",
    "CellTestDataset",
    "Draw",
    "DrawSampler",
    "InfiniteDrawSampler",
    "NucleiDataset",
    "SeededDataset",
]
