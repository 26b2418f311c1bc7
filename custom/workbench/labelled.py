"""The images and the ground truth of a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from custom.structures import LabelMasks
from custom.transforms import LoadCellImage, LoadLabelMasks


@dataclass
class Labelled:
    """One image of a data set with its ground truth.

    Attributes:
        name: Its name.
        path: Its file.
        masks: Its N cells.
        labels: (N,) int64, their classes.
        ignored: Its regions to ignore.
        image: Reads its pixels, (H, W, 3) uint8 RGB in true colours.
    """

    name: str
    path: str
    masks: LabelMasks
    labels: np.ndarray
    ignored: LabelMasks
    image: Callable[[], np.ndarray]


class LabelledSet:
    """A data set without its augmentation.

    Args:
        dataset: With the loading steps ``LoadCellImage`` and ``LoadLabelMasks`` in its
            pipeline, or those of default settings.
    """

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset

        def step(kind: type):
            steps = dataset.pipeline.transforms
            return next((s for s in steps if isinstance(s, kind)), None) or kind()

        self.read_image = step(LoadCellImage).read
        self._read_masks = step(LoadLabelMasks).transform
        self.classes = tuple(dataset.metainfo["classes"])
        self.palette = [tuple(color) for color in dataset.metainfo["palette"]]

    @classmethod
    def from_config(cls, cfg: ConfigDict) -> LabelledSet:
        """The data set of a data loader's config, also inside RepeatDataset."""
        init_default_scope("mmdet")
        # Serialising is for loaders with workers; it costs half a second.
        return cls(DATASETS.build({**innermost(cfg), "serialize_data": False}))

    def __len__(self) -> int:
        return len(self.dataset)

    def select(self, names: Collection[str] | None = None) -> Iterator[Labelled]:
        """Yield the images of some names, or all."""
        for entry in map(self.dataset.get_data_info, range(len(self))):
            if names is not None and entry["name"] not in names:
                continue
            entry = self._read_masks(entry)
            cells, path = ~entry["gt_ignore_flags"], str(entry["img_path"])
            yield Labelled(
                entry["name"],
                path,
                entry["gt_masks"][cells],
                entry["gt_bboxes_labels"][cells],
                entry["gt_masks"][~cells],
                partial(self.read_image, path),
            )


def classes_of(cfg: ConfigDict) -> tuple[str, ...]:
    """The classes of a config's data; no file is read."""
    init_default_scope("mmdet")
    loader = cfg.get("val_dataloader") or cfg.train_dataloader
    dataset = DATASETS.build({**innermost(loader.dataset), "lazy_init": True})
    return tuple(dataset.metainfo["classes"])


def innermost(cfg: ConfigDict) -> ConfigDict:
    """The data set inside RepeatDataset and the like."""
    while "dataset" in cfg:
        cfg = cfg.dataset
    return cfg
