"""Finding the images of a source, and which annotation belongs to which image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item
from custom.io.names import IMAGE_SUFFIXES, TCGA_PATIENT, files_below, image_name

# A name becomes that of files and folders: nothing hidden and no way out of them.
SAFE_NAME = re.compile(r"[\w(][\w .()+=,#@-]*")


def find_pairs(
    annotations: Iterable[tuple[str, Path]],
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
    annotations = list(annotations)
    of_name: dict[str, list[Path]] = {}
    taken = {path for _, path in annotations}
    for path in files_below(images, IMAGE_SUFFIXES):
        if path not in taken:
            of_name.setdefault(image_name(path), []).append(path)
    items = []
    for name, path in annotations:
        candidates = of_name.get(name)
        if not candidates:
            raise InputError(
                path,
                f"there is no image {name} in {images}",
                "Name the folder of the images with --images",
            )
        image = min(
            candidates,
            key=lambda p: (
                p.parent != path.parent,
                IMAGE_SUFFIXES.index(p.suffix.lower()),
            ),
        )
        items.append(
            Item(
                name,
                (path, image),
                image.relative_to(images).as_posix(),
                partial(read, path, image),
                len(items) + 1,
            )
        )
    return check_names(items)


def check_names(items: list[Item]) -> list[Item]:
    """Refuse names that are not unique or cannot be those of files.

    Raises:
        InputError: It is so.
    """
    seen: dict[str, Item] = {}
    for item in items:
        if not SAFE_NAME.fullmatch(item.name):
            raise InputError(
                item.files[0],
                f"the image's name {item.name[:80]!r} cannot be that of a file",
                "Use letters, digits, '_', '-' and '.'",
            )
        # Some file systems do not tell a from A.
        other = seen.setdefault(item.name.lower(), item)
        if other is not item:
            raise InputError(
                item.files[0],
                f"has the name of {other.files[0]}",
                "Convert their folders one by one",
            )
    return items


def patient_of(item: Item) -> str | None:
    """The patient of an image by the TCGA barcode in its name or a folder's."""
    for text in (item.name, *map(str, item.files)):
        if match := TCGA_PATIENT.search(text):
            return match[0]
    return None
