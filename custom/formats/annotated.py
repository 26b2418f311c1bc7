"""Images with their instances, and the search for them on disk.

Every reader gives :class:`Annotated` images and every writer takes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.io.image import MAX_INSTANCES, check_size, image_size, read_image
from custom.io.names import IMAGE_SUFFIXES, TCGA_PATIENT, files_below, image_name
from custom.structures.box_masks import BoxMasks

# Names become files and folders: neither hidden nor outside the output.
SAFE_NAME = re.compile(r"[\w(][\w .()+=,#@-]*")
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

    Attributes:
        masks: N masks, none of them empty; they may overlap.
        classes: The name of the class of each.
        dropped: What was left out, by reason.
        facts: What the source says besides, such as ``microns_per_pixel``.
    """

    source: Path
    size: tuple[int, int]
    read_image: Callable[[], np.ndarray]
    masks: BoxMasks = field(init=False)
    classes: list[str] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    facts: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.source, *self.size)
        self.masks = BoxMasks.from_patches([], self.size)

    @classmethod
    def of_file(cls, source: Path, image: Path) -> Annotated:
        """An image file without instances so far.

        Raises:
            InputError: See :mod:`custom.io.image`.
        """
        return cls(source, image_size(image), partial(read_image, image))

    def extend(self, instances: Iterable[tuple[str, BoxMasks]]) -> None:
        """Add masks; empty ones are counted and left out.

        Args:
            instances: A class and masks of it.

        Raises:
            InputError: The masks are too many for an image of this size.
        """
        parts = [self.masks]
        limit = max(_MAX_COVER * self.size[0] * self.size[1], _COVER_FLOOR)
        cover = 0
        for name, masks in instances:
            areas = np.prod(masks.windows[:, 2:] - masks.windows[:, :2], axis=1)
            if empty := int((areas == 0).sum()):
                self.dropped["covers no pixel of the image"] += empty
                masks = masks[areas > 0]
            cover += int(areas.sum())
            self.classes += [name] * len(masks)
            if len(self.classes) > MAX_INSTANCES or cover > limit:
                raise InputError(
                    self.source,
                    f"{len(self.classes)} instances or more, too many or too large "
                    f"for an image of {self.size[0]}x{self.size[1]} pixels",
                    "Check that image and annotation belong together",
                )
            parts.append(masks)
        self.masks = BoxMasks.cat(parts)

    def add_labels(self, name: str, labels: np.ndarray) -> None:
        """Add the instances of a class from its (H, W) int32 label image."""
        self.extend([(name, BoxMasks.from_label_image(labels))])

    def of_classes(self, *names: str) -> BoxMasks:
        """The masks of some classes."""
        return self.masks[np.array([name in names for name in self.classes], bool)]


@dataclass(frozen=True)
class Item:
    """One image of a source, which has not been read yet.

    Args:
        name: Name of the image in every output, unique within the source.
        files: The files that it is read from.
        image_file: The image's path from the images' folder, for COCO JSON; None if it
            is a part of an array.
        read: Reads it.
        number: The id of the image in COCO JSON.
    """

    name: str
    files: tuple[Path, ...]
    image_file: str | None
    read: Callable[[], Annotated]
    number: int

    @property
    def patient(self) -> str | None:
        """The patient by the TCGA barcode in the image's name or a folder's."""
        texts = (self.name, *map(str, self.files))
        return next((m[0] for m in map(TCGA_PATIENT.search, texts) if m), None)


@dataclass(frozen=True)
class Source:
    """All images of a folder or file.

    Args:
        root: The folder or file that was given.
        items: The images.
        classes: The classes that may occur, in the order of their numbers in COCO JSON.
            Others that occur follow.
    """

    root: Path
    items: list[Item]
    classes: tuple[str, ...]


class Writer:
    """Writes one format."""

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write the files of one image into an empty folder; returns manifest entries.

        The files are moved to the output later.
        """
        raise NotImplementedError

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Write what all images have in common, from their lines of the manifest."""


def pair_with_images(
    annotations: Sequence[tuple[str, Path]],
    images: Path,
    read: Callable[[Path, Path], Annotated],
) -> list[Item]:
    """Find the image of each annotation by its name.

    Args:
        annotations: (name, file) of each annotation.
        images: Folder that holds ``<name>.<suffix>`` or ``<name>/image.<suffix>``, at
            any depth. Of several the one in the annotation's own folder is taken, then
            the order of ``IMAGE_SUFFIXES`` counts.
        read: Called with annotation and image.

    Raises:
        InputError: An image is missing, a name is not unique or cannot be that of a
            file.
    """
    annotation_files = {path for _, path in annotations}
    candidates: dict[str, list[Path]] = {}
    for path in files_below(images, IMAGE_SUFFIXES):
        if path not in annotation_files:
            candidates.setdefault(image_name(path), []).append(path)
    items = []
    for number, (name, path) in enumerate(annotations, 1):
        if name not in candidates:
            raise InputError(
                path,
                f"the image {name} is missing in {images}",
                "Name the folder of the images with --images",
            )

        def rank(image: Path, folder: Path = path.parent) -> tuple[bool, int]:
            suffix = image.suffix.lower()
            return image.parent != folder, IMAGE_SUFFIXES.index(suffix)

        image = min(candidates[name], key=rank)
        file = image.relative_to(images).as_posix()
        read_both = partial(read, path, image)
        items.append(Item(name, (path, image), file, read_both, number))
    return check_names(items)


def find_pairs(
    root: Path,
    images: Path | None,
    suffix: str,
    read: Callable[[Path, Path], Annotated],
    classes: tuple[str, ...] = (),
) -> Source:
    """The annotation files of a folder, each with its image.

    Annotations are ``<image><suffix>`` in ``root``, at any depth; the images are there
    too unless another folder is given. ``read`` is called with both.

    Raises:
        InputError: The folder lacks them, or see :func:`pair_with_images`.
    """
    files = files_below(root, (suffix,))
    if not files:
        raise InputError(root, f"no {suffix} files in it", "Check the name")
    named = [(path.stem, path) for path in files]
    return Source(root, pair_with_images(named, images or root, read), classes)


def check_names(items: list[Item]) -> list[Item]:
    """Return the items; raise :class:`InputError` for names that cannot be files."""
    seen: dict[str, Item] = {}
    for item in items:
        if not SAFE_NAME.fullmatch(item.name):
            raise InputError(
                item.files[0],
                f"the image's name {item.name[:80]!r} cannot be that of a file",
                "Use letters, digits, '_', '-' and '.'",
            )
        # Some file systems do not tell a from A.
        first = seen.setdefault(item.name.lower(), item)
        if first is not item:
            raise InputError(
                item.files[0],
                f"has the name of {first.files[0]}",
                "Convert their folders one by one",
            )
    return items
