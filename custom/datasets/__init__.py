"""Indexing what is on disk; splits; samplers."""

import custom.transforms  # noqa: F401 (first: it silences mmdet.datasets)
from custom.datasets.cell import CellDataset
from custom.datasets.cell_test import CellTestDataset
from custom.datasets.coco import CocoCellDataset
from custom.datasets.folders import LabelImageDataset, NucleiDataset
from custom.datasets.samplers import (
    Draw,
    DrawSampler,
    InfiniteDrawSampler,
    SeededDataset,
)

__all__ = [
    "CellDataset",
    "CellTestDataset",
    "CocoCellDataset",
    "Draw",
    "DrawSampler",
    "InfiniteDrawSampler",
    "LabelImageDataset",
    "NucleiDataset",
    "SeededDataset",
]
