"""Reading and indexing what is on disk; splits."""

from .cell_dataset import CellDataset
from .cell_test_dataset import CellTestDataset
from .nuclei_dataset import NucleiDataset

__all__ = ["CellDataset", "CellTestDataset", "NucleiDataset"]
