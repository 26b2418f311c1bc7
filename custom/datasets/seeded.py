"""A data set whose random numbers follow the draw."""

from __future__ import annotations

from mmdet.registry import DATASETS

from custom.datasets.random_numbers import own_random_numbers
from custom.datasets.samplers import Draw


@DATASETS.register_module()
class SeededDataset:
    """The outermost wrapper of a training set: a draw's seed decides all chance in it.

    Transforms, images that are mixed in and images that replace a spoiled one are then
    the same whichever worker of whichever process loads the draw, and whatever it has
    loaded before. The generators of the process are left as they were. An index that
    is no :class:`Draw` is passed on.

    Args:
        dataset: The data set, or its config.
    """

    def __init__(self, dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    @property
    def metainfo(self) -> dict:
        """That of the data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Load the index of the data set."""
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict:
        """The entry of an image (for samplers that group by shape)."""
        return self.dataset.get_data_info(int(index))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        if not isinstance(index, Draw):
            return self.dataset[index]
        with own_random_numbers(index.seed):
            return self.dataset[int(index)]
