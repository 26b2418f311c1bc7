"""Label images as Cellpose, StarDist and annotation tools write them: all cells in one.

Cellpose puts ``<image>_masks.tif`` (older versions ``<image>_cp_masks.png``) beside the
image; StarDist's data sets have folders ``images`` and ``masks`` with equal names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source
from custom.formats.layout import write_labels
from custom.formats.patches import paint
from custom.formats.sources import find_pairs
from custom.io.arrays import open_array
from custom.io.image import as_labels, image_size, read_image, read_labels
from custom.io.names import IGNORE, NUCLEUS, files_below

_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_ENDINGS = ("_cp_masks", "_masks")


def find_labels(root: Path, images: Path | None = None) -> Source:
    """The label images of a folder.

    Args:
        root: Holds ``<image>_masks.*`` or ``<image>_cp_masks.*``; if it has none, every
            file is a label image with the name of its image.
        images: Folder of the images; None if they are in ``root`` too.

    Raises:
        InputError: There is none, or see :func:`custom.formats.sources.find_pairs`.
    """
    files = files_below(root, _SUFFIXES)
    named = [
        (path.stem.removesuffix(ending), path)
        for path in files
        for ending in _ENDINGS
        if path.stem.endswith(ending) and not path.stem.endswith(f"_cp{ending}")
    ]
    if not named and images is not None:
        named = [(path.stem, path) for path in files]
    if not named:
        raise InputError(
            root,
            "no label images <image>_masks.tif, .png or .npy in it",
            "Name the folder of the images with --images, or save the masks of "
            "Cellpose as TIFF (_seg.npy holds Python code and is not read)",
        )
    return Source(root, find_pairs(named, images or root, read_label_file), (NUCLEUS,))


def read_label_file(path: Path, image: Path) -> Annotated:
    """Read one label image, TIFF, PNG of 8 or 16 bits or ``.npy``, and its image.

    Raises:
        InputError: See :mod:`custom.io.image`; also if the sizes differ.
    """
    found = Annotated(image, image_size(image), partial(read_image, image))
    if path.suffix.lower() == ".npy":
        labels = as_labels(path, np.asarray(open_array(path)))
    else:
        labels = read_labels(path)
    found.add_labels(NUCLEUS, path, labels)
    return found


class LabelWriter:
    """Writes ``<image>.tif`` and ``<image>_masks.tif``: no classes, no overlaps."""

    def write(self, item: Item, found: Annotated, folder: Path) -> dict:
        """Write both files; see :class:`custom.formats.layout.LayoutWriter`."""
        cells = [c != IGNORE for c in found.classes]
        patches = [p for p, keep in zip(found.patches, cells, strict=True) if keep]
        found.dropped["a region to ignore"] += len(cells) - len(patches)
        labels, shared = paint(patches, found.size)
        present, labels = np.unique(np.append(labels, 0), return_inverse=True)
        tifffile.imwrite(
            folder / f"{item.name}.tif",
            found.read_image(),
            photometric="rgb",
            compression="zlib",
            predictor=True,
        )
        labels = labels[:-1].reshape(found.size)
        write_labels(folder / f"{item.name}_masks.tif", labels)
        return {
            "written": {NUCLEUS: len(present) - 1},
            "overlap_pixels": shared,
            "hidden": len(patches) - len(present) + 1,
        }

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Nothing is left to do."""
