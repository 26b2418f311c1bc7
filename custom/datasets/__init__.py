"""Reading and indexing what is on disk; splits."""

from .cell_dataset import CellDataset
from .cell_test_dataset import CellTestDataset

__all__ = ["CellDataset", "CellTestDataset"]
