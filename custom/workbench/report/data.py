"""The images and the ground truth of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from custom.datasets.splits import patients_from_names
from custom.errors import InputError
from custom.structures import LabelMasks
from custom.transforms import LoadCellImage, LoadLabelMasks


@dataclass
class Labelled:
    """One image of a data set with its ground truth.

    Attributes:
        name: Its name.
        size: (H, W) in pixels.
        counts: Instances of each class.
        masks: The instances.
        labels: (N,) int64, their classes.
    """

    name: str
    size: tuple[int, int]
    counts: list[int]
    masks: LabelMasks
    labels: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """(N,) the square root of each instance's area, in pixels."""
        return np.sqrt(self.masks.areas)


def classes_of(cfg: Config) -> tuple[str, ...]:
    """The classes of a config's data; no file is read."""
    init_default_scope("mmdet")
    loader = cfg.get("val_dataloader") or cfg.train_dataloader
    dataset = DATASETS.build({**_innermost(loader.dataset), "lazy_init": True})
    return tuple(dataset.metainfo["classes"])


def _innermost(cfg: ConfigDict) -> ConfigDict:
    """The data set inside RepeatDataset and the like."""
    while "dataset" in cfg:
        cfg = cfg.dataset
    return cfg


class LabelledSet:
    """A data set of a config without its augmentation."""

    def __init__(self, cfg: ConfigDict) -> None:
        init_default_scope("mmdet")
        # Serialising is for loaders with workers; it costs half a second.
        self.dataset = DATASETS.build({**_innermost(cfg), "serialize_data": False})
        steps = self.dataset.pipeline.transforms

        def own(kind: type):
            return next((step for step in steps if isinstance(step, kind)), kind())

        self._read_image, self._read_masks = own(LoadCellImage), own(LoadLabelMasks)
        self.classes = tuple(self.dataset.metainfo["classes"])
        self.palette = [tuple(c) for c in self.dataset.metainfo["palette"]]

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Labelled]:
        for i in range(len(self)):
            entry = self._read_masks.transform(self.dataset.get_data_info(i))
            yield Labelled(
                entry["name"],
                (entry["height"], entry["width"]),
                entry["counts"],
                entry["gt_masks"],
                entry["gt_bboxes_labels"],
            )

    def images(self, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, (H, W, 3) uint8 RGB) of some images, in the order of names."""
        entries = (self.dataset.get_data_info(i) for i in range(len(self)))
        entry_of = {entry["name"]: entry for entry in entries}
        for name in names:
            yield name, self._read_image.read(entry_of[name]["img_path"])


def class_rows(sets: dict[str, list[Labelled]], classes: tuple[str, ...]) -> list[list]:
    """A row for each class and one for all: instances and images of each set, sizes."""
    rows = []
    for label, name in [*enumerate(classes), (None, "all")]:
        row = [name]
        for images in sets.values():
            counts = [
                sum(i.counts) if label is None else i.counts[label] for i in images
            ]
            row += [f"{sum(counts):,}", f"{sum(map(bool, counts))}"]
        sides = np.concatenate(
            [
                i.sides if label is None else i.sides[i.labels == label]
                for images in sets.values()
                for i in images
            ]
        )
        if len(sides):
            low, middle, high = np.percentile(sides, (10, 50, 90))
            row += [f"{middle:.1f}", f"{low:.1f} to {high:.1f}"]
        else:
            row += ["–", "–"]
        rows.append(row)
    return rows


def set_facts(images: list[Labelled]) -> str:
    """Images, patients and cells of a set in one line."""
    names = [image.name for image in images]
    try:
        patients = f"{len(set(patients_from_names(names, 'names').values()))} patients"
    except InputError:
        patients = "patients unknown"
    cells = [sum(image.counts) for image in images]
    pixels = sum(image.size[0] * image.size[1] for image in images) / 1e6
    return (
        f"{len(images)} images of {patients}, {pixels:.1f} megapixels, {sum(cells):,} "
        f"cells, {min(cells)} to {max(cells)} in an image"
    )


def size_histogram(
    images: list[Labelled], classes: tuple[str, ...], width: float = 2.0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cells of each class by the square root of their area.

    Returns:
        The bins' centres in pixels, the last for all that is larger than the 99.5th
        percentile, and the share of each class in percent.
    """
    sides = np.concatenate([image.sides for image in images])
    labels = np.concatenate([image.labels for image in images])
    most = np.percentile(sides, 99.5) if len(sides) else 1
    edges = np.arange(0, most + 2 * width, width)
    sides = np.minimum(sides, edges[-1] - width / 2)
    shares = {}
    for label, name in enumerate(classes):
        counts = np.histogram(sides[labels == label], edges)[0]
        shares[name] = 100 * counts / max(1, counts.sum())
    return (edges[:-1] + edges[1:]) / 2, shares
