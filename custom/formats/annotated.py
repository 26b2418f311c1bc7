"""One image with its instances: what every reader gives and every writer takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.formats.patches import Patch, from_labels
from custom.io.image import MAX_INSTANCES, check_size

# Boxes of the instances may cover the image this often, or a small file could ask for
# any amount of memory.
_MAX_COVER = 64
_COVER_FLOOR = 1 << 24


@dataclass
class Annotated:
    """An image and its instances.

    Args:
        source: The file that is named when something is wrong.
        size: (H, W) of the image.
        read_image: Reads its pixels, (H, W, 3) uint8 RGB, when a writer wants them.
    """

    source: Path
    size: tuple[int, int]
    read_image: Callable[[], np.ndarray]
    #: The instances and the name of the class of each.
    patches: list[Patch] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    #: What was left out, by reason.
    dropped: Counter = field(default_factory=Counter)
    #: What the source says besides, such as ``microns_per_pixel`` or ``patient``.
    facts: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.source, *self.size)
        self._cover = 0

    def add(self, name: str, patch: Patch | None) -> None:
        """Add an instance; an empty one is counted and left out.

        Raises:
            InputError: There are too many for an image of this size.
        """
        if patch is None:
            self.dropped["covers no pixel of the image"] += 1
            return
        self._cover += patch[2].size
        limit = max(_MAX_COVER * self.size[0] * self.size[1], _COVER_FLOOR)
        if len(self.patches) == MAX_INSTANCES or self._cover > limit:
            raise InputError(
                self.source,
                f"more than {len(self.patches)} instances, too many or too large for "
                f"an image of {self.size[0]}x{self.size[1]} pixels",
                "Do image and annotation belong together?",
            )
        self.patches.append(patch)
        self.classes.append(name)

    def add_labels(self, name: str, path: Path, labels: np.ndarray) -> None:
        """Add the instances of a label image.

        Args:
            name: Their class.
            path: Where the label image is from.
            labels: (H, W) int32.

        Raises:
            InputError: It has another size than the image, or see :meth:`add`.
        """
        if labels.shape != self.size:
            raise InputError(
                path,
                f"its size (H, W) is {labels.shape}, its image's is {self.size}",
                "Label image and image must show the same pixels",
            )
        for _, patch in from_labels(labels):
            self.add(name, patch)

    def of_class(self, name: str) -> list[Patch]:
        """The patches of one class."""
        return [p for p, c in zip(self.patches, self.classes, strict=True) if c == name]


@dataclass(frozen=True)
class Item:
    """One image of a source, found and not yet read.

    Args:
        name: Name of the image in every output, unique within the source.
        files: All that it is read from.
        image_file: Its image as COCO JSON names it, a path from the images' folder;
            None if it is a part of an array.
        read: Reads it.
        number: The id of the image in COCO JSON.
    """

    name: str
    files: tuple[Path, ...]
    image_file: str | None
    read: Callable[[], Annotated]
    number: int


@dataclass(frozen=True)
class Source:
    """The images that were found.

    Args:
        root: The folder or file that was given.
        items: The images.
        classes: The classes that may occur, in the order of their numbers in COCO JSON.
            Others that occur follow.
    """

    root: Path
    items: list[Item]
    classes: tuple[str, ...]
