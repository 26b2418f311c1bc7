"""The layout that this project trains on: one label image per class.

``<image>/image.tif`` with ``<class>.tif`` beside it; a class without a file is absent.
``ignore.tif`` is a label image of regions that are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source
from custom.formats.patches import paint
from custom.formats.sources import check_names
from custom.io.atomic import write_atomically
from custom.io.image import TIFF_SUFFIXES, image_size, read_image, read_labels
from custom.io.names import IGNORE

#: The classes of the course's task.
CELL_CLASSES = ("class1", "class2", "class3", "class4")


def find_layout(root: Path, names: Sequence[str] | None = None) -> Source:
    """The images of a folder in the layout.

    Args:
        root: Holds a folder for each image.
        names: The images to take; None for all. An image has the same number either
            way.

    Raises:
        InputError: There is none, or a folder has no ``image.tif``.
    """
    folders = sorted(p for p in root.glob("[!.]*") if p.is_dir())
    if not folders:
        raise InputError(root, "no image folder in it", "Expected is <image>/image.tif")
    items, classes = [], set()
    for number, folder in enumerate(folders, 1):
        labels = sorted(p for p in folder.iterdir() if p.suffix in TIFF_SUFFIXES)
        image = folder / "image.tif"
        if image not in labels:
            raise InputError(
                folder, "image.tif is missing", "Add it, or remove the folder"
            )
        labels.remove(image)
        classes.update(path.stem for path in labels)
        if names is None or folder.name in names:
            items.append(
                Item(
                    folder.name,
                    (image, *labels),
                    f"{folder.name}/image.tif",
                    partial(read_layout, image, labels),
                    number,
                )
            )
    classes -= {IGNORE}
    known = CELL_CLASSES if classes <= set(CELL_CLASSES) else sorted(classes)
    return Source(root, check_names(items), tuple(known))


def read_layout(image: Path, labels: Sequence[Path]) -> Annotated:
    """Read one image of the layout.

    Raises:
        InputError: See :mod:`custom.io.image`; also if the sizes differ.
    """
    found = Annotated(image, image_size(image), partial(read_image, image))
    for path in labels:
        found.add_labels(path.stem, path, read_labels(path))
    return found


class LayoutWriter:
    """Writes the layout.

    Instances of one class that overlap cannot share pixels of one label image: later
    ones lie over earlier, and what disappears completely is counted.
    """

    def write(self, item: Item, found: Annotated, folder: Path) -> dict:
        """Write the folder of one image; deflate, ids that continue over the classes.

        Returns:
            For the manifest: ``written``, instances by class, and how many pixels and
            instances were hidden.
        """
        target = folder / item.name
        target.mkdir()
        tifffile.imwrite(
            target / "image.tif",
            found.read_image(),
            photometric="rgb",
            compression="zlib",
            predictor=True,
        )
        written, pixels, count = {}, 0, 0
        for name in sorted(set(found.classes)):
            labels, shared = paint(found.of_class(name), found.size)
            table = np.zeros(len(found.classes) + 1, np.int32)
            present = np.unique(labels[labels > 0])
            table[present] = np.arange(count + 1, count + 1 + len(present))
            write_labels(target / f"{name}.tif", table[labels])
            written[name] = len(present)
            pixels, count = pixels + shared, count + len(present)
        return {
            "written": written,
            "overlap_pixels": pixels,
            "hidden": len(found.classes) - count,
        }

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Write ``patients.csv``, which ``make_split.py --patients`` reads."""
        rows = [(r["name"], r["patient"]) for r in records if "patient" in r]
        if not rows:
            return
        with (
            write_atomically(out / "patients.csv") as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([("name", "patient"), *sorted(rows)])


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as deflated TIFF of 16 bits, or 32 if it has to be."""
    narrow = labels.max(initial=0) <= np.iinfo(np.uint16).max
    dtype = np.uint16 if narrow else np.uint32
    tifffile.imwrite(
        path, labels.astype(dtype), photometric="minisblack", compression="zlib"
    )
