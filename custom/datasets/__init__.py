"""Indexing what is on disk; splits; samplers."""

import contextlib
import io

# mmdet.datasets prints a line for each optional package that is missing.
with contextlib.redirect_stdout(io.StringIO()):
    import mmdet.datasets.transforms  # noqa: F401

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
