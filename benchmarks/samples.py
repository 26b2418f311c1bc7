"""Inputs of the benchmarks: real regions, or dense synthetic ones."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from custom.datasets import CellDataset
from custom.io.image import read_labels
from custom.structures import LabelMasks


@lru_cache
def entries(root: Path | None) -> list[dict]:
    """The index of all training images."""
    if root is None:
        root = _synthetic()
    dataset = CellDataset(
        data_root=str(root), data_prefix={"img": "train"}, pipeline=[], split="all"
    )
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def _synthetic() -> Path:
    """Eight dense tiles of 1024²; about 600 cells each."""
    from custom.workbench.synthetic import write_dataset

    root = Path(tempfile.mkdtemp()) / "dense"
    write_dataset(root, n_train=8, n_test=1, size=1024)
    return root


def load_masks(entry: dict) -> LabelMasks:
    """The masks of one image, in its own frame."""
    size = (entry["height"], entry["width"])
    images = [read_labels(path) for _, path in entry["label_files"]]
    return LabelMasks.from_label_images(images or [np.zeros(size, np.int32)])[0]
