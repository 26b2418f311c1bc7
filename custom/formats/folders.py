"""Folders of label images and of bitmaps, in and out.

* The layout that this project trains on, one label image per class:
  ``<image>/image.tif`` with ``<class>.tif`` beside it; a class without a file is
  absent. ``ignore.tif`` is a label image of regions that are left out.
* Label images of all cells, as Cellpose, StarDist and annotation tools write them.
  Cellpose puts ``<image>_masks.tif`` (older versions ``<image>_cp_masks.png``) beside
  the image; StarDist's data sets have folders ``images`` and ``masks`` with the same
  names.
* One bitmap per instance: ``<image>/images/<image>.png``, ``<image>/masks/*.png``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError
from custom.formats.annotated import (
    Annotated,
    Item,
    Source,
    Writer,
    check_names,
    pair_with_images,
)
from custom.formats.arrays import open_array
from custom.io.atomic import write_atomically
from custom.io.image import as_labels, read_instances, read_labels
from custom.io.names import IGNORE, IMAGE_SUFFIXES, NUCLEUS, files_below
from custom.io.tiff import TIFF_SUFFIXES
from custom.structures.box_masks import BoxMasks

#: The classes of the course's task.
CELL_CLASSES = ("class1", "class2", "class3", "class4")
_LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_LABEL_ENDINGS = ("_cp_masks", "_masks")


def find_layout(root: Path, names: Sequence[str] | None = None) -> Source:
    """The images of a folder in the layout.

    Args:
        root: Holds a folder for each image.
        names: The images to take; None for all. An image has the same number either
            way.

    Raises:
        InputError: The folder lacks images, or one lacks ``image.tif``.
    """
    folders = sorted(p for p in root.glob("[!.]*") if p.is_dir())
    if not folders:
        raise InputError(root, "no image folder in it", "Expected: <image>/image.tif")
    items, classes = [], set[str]()
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
            file, read = f"{folder.name}/image.tif", partial(read_layout, image, labels)
            items.append(Item(folder.name, (image, *labels), file, read, number))
    classes -= {IGNORE}
    known = CELL_CLASSES if classes <= set(CELL_CLASSES) else sorted(classes)
    return Source(root, check_names(items), tuple(known))


def classes_by_name(source: Source) -> dict[str, list[str]]:
    """The classes of each image of :func:`find_layout`, regions to ignore left out."""
    return {
        item.name: [path.stem for path in item.files[1:] if path.stem != IGNORE]
        for item in source.items
    }


def read_layout(image: Path, labels: Sequence[Path]) -> Annotated:
    """Read one image of the layout.

    Raises:
        InputError: See :mod:`custom.io.image`; also if the sizes differ.
    """
    annotated = Annotated.of_file(image, image)
    for path in labels:
        annotated.add_labels(path.stem, read_labels(path, annotated.size))
    return annotated


class LayoutWriter(Writer):
    """Writes the layout.

    Instances of one class that overlap cannot share pixels of one label image: later
    ones lie over earlier, and what disappears completely is counted.
    """

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write the folder of one image; ids continue over the classes.

        Returns:
            The visible instances by class, the hidden pixels and instances.
        """
        target = folder / item.name
        target.mkdir()
        _write_image(target / "image.tif", annotated)
        written, shared, count = {}, 0, 0
        for name in sorted(set(annotated.classes)):
            masks = annotated.of_classes(name)
            written[name], pixels = _write_labels(target / f"{name}.tif", masks, count)
            count, shared = count + written[name], shared + pixels
        return {
            "written": written,
            "overlap_pixels": shared,
            "hidden": len(annotated.classes) - count,
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


def _write_image(path: Path, annotated: Annotated) -> None:
    image = annotated.read_image()
    tifffile.imwrite(path, image, photometric="rgb", compression="zlib", predictor=True)


def _write_labels(path: Path, masks: BoxMasks, before: int = 0) -> tuple[int, int]:
    """Write masks as a deflated label image of 16 bits, or 32 if it has to be.

    Later masks lie over earlier ones, and the ids begin after ``before``.

    Returns:
        How many masks can be seen, and the pixels that masks lost to later ones.
    """
    labels = masks.paint()
    pixels = np.bincount(labels.ravel(), minlength=len(masks) + 1)
    seen = np.flatnonzero(pixels[1:]) + 1
    ids = np.zeros(len(pixels), np.uint32)
    ids[seen] = np.arange(before + 1, before + 1 + len(seen))
    narrow = ids.max(initial=0) <= np.iinfo(np.uint16).max
    labels = ids.astype(np.uint16 if narrow else np.uint32)[labels]
    tifffile.imwrite(path, labels, photometric="minisblack", compression="zlib")
    return len(seen), int(masks.areas.sum() - pixels[1:].sum())


def find_labels(root: Path, images: Path | None = None) -> Source:
    """The label images of a folder.

    Args:
        root: Holds ``<image>_masks.*`` or ``<image>_cp_masks.*``; if it has none, every
            file is a label image with the name of its image.
        images: Folder of the images; default: ``root``.

    Raises:
        InputError: The folder lacks them, or see :func:`pair_with_images`.
    """
    files = files_below(root, _LABEL_SUFFIXES)
    named = [
        (path.stem.removesuffix(ending), path)
        for path in files
        for ending in _LABEL_ENDINGS
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
    items = pair_with_images(named, images or root, _read_label_file)
    return Source(root, items, (NUCLEUS,))


def _read_label_file(path: Path, image: Path) -> Annotated:
    """One label image, TIFF, PNG of 8 or 16 bits or ``.npy``, and its image."""
    annotated = Annotated.of_file(image, image)
    if path.suffix.lower() == ".npy":
        labels = as_labels(path, np.asarray(open_array(path)), annotated.size)
    else:
        labels = read_labels(path, annotated.size)
    annotated.add_labels(NUCLEUS, labels)
    return annotated


class LabelWriter(Writer):
    """Writes ``<image>.tif`` and ``<image>_masks.tif``: no classes, no overlaps."""

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write both files; see :class:`LayoutWriter`."""
        masks = _cells(annotated)
        _write_image(folder / f"{item.name}.tif", annotated)
        count, shared = _write_labels(folder / f"{item.name}_masks.tif", masks)
        return {
            "written": {NUCLEUS: count},
            "overlap_pixels": shared,
            "hidden": len(masks) - count,
        }


def _cells(annotated: Annotated) -> BoxMasks:
    """The masks of all classes; regions to ignore are counted as left out."""
    masks = annotated.of_classes(*{*annotated.classes} - {IGNORE})
    annotated.dropped["a region to ignore"] += len(annotated.masks) - len(masks)
    return masks


def find_mask_folders(root: Path) -> Source:
    """The images of ``<image>/images/<image>.*`` with the bitmaps ``<image>/masks/*``.

    Raises:
        InputError: The folder lacks them, or one lacks its image.
    """
    folders = sorted(path.parent for path in root.glob("[!.]*/images"))
    if not folders:
        raise InputError(
            root,
            "no image folder in it",
            "Expected: <image>/images/<image>.png with <image>/masks/*.png",
        )
    items = []
    for number, folder in enumerate(folders, 1):
        images = files_below(folder / "images", IMAGE_SUFFIXES)
        if len(images) != 1:
            raise InputError(
                folder / "images", f"it holds {len(images)} images, not 1", "Keep one"
            )
        masks = files_below(folder / "masks", (".png",))
        file, read = images[0].relative_to(root), partial(read_masks, images[0], masks)
        files = images[0], *masks
        items.append(Item(folder.name, files, file.as_posix(), read, number))
    return Source(root, check_names(items), (NUCLEUS,))


def read_masks(image: Path, masks: Sequence[Path]) -> Annotated:
    """Read one image and its bitmaps, which may be none.

    Raises:
        InputError: See :mod:`custom.io.image`.
    """
    annotated = Annotated.of_file(image, image)
    patches = read_instances(masks, annotated.size)
    annotated.extend([(NUCLEUS, BoxMasks.from_patches(patches, annotated.size))])
    return annotated


class MaskFolderWriter(Writer):
    """Writes the same folders: no classes, but instances may overlap."""

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write the folder of one image."""
        target = folder / item.name
        (target / "images").mkdir(parents=True)
        (target / "masks").mkdir()
        image = cv2.cvtColor(annotated.read_image(), cv2.COLOR_RGB2BGR)
        write_png(target / "images" / f"{item.name}.png", image)
        masks = _cells(annotated)
        for number in range(len(masks)):
            bitmap = np.where(masks.paint([number]), 255, 0).astype(np.uint8)
            write_png(target / "masks" / f"{item.name}_{number + 1:05}.png", bitmap)
        return {"written": {NUCLEUS: len(masks)}}


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W) or BGR (H, W, 3) uint8; OpenCV's own function hides why it fails."""
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
