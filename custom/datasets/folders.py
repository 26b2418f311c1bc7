"""Data sets of one class in the layouts of other projects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tifffile
from mmdet.registry import DATASETS

from custom.datasets.cell import CellDataset, ImageFiles, subfolders
from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.io.image import read_instances
from custom.io.names import IMAGE_SUFFIXES
from custom.structures import BoxMasks, LabelMasks


@DATASETS.register_module()
class NucleiDataset(CellDataset):
    """Images with one bitmap per nucleus.

    The layout is ``<image>/images/<image>.png`` with ``<image>/masks/*.png``: the
    nuclei task of 2021 and the 2018 Data Science Bowl. An image has up to 1,862
    bitmaps of one megapixel, which take seconds to decode; they are packed into label
    images once. Options and entries are those of :class:`CellDataset`, of one class.

    Args:
        cache_dir: Folder of the label images, see :func:`pack_masks`.
    """

    METAINFO: ClassVar[dict] = {"classes": ("nucleus",)}

    def __init__(
        self, *args, cache_dir: str = "~/.cache/mmcell/labels", **kwargs
    ) -> None:
        self.cache_dir = cache_dir
        super().__init__(*args, **kwargs)

    def _scan(self, folder: Path) -> dict[str, ImageFiles]:
        """The image and the folder of masks of each image folder."""
        (class_name,) = _one_class(self)
        files = {}
        for path in subfolders(folder):
            images = _images(path / "images")
            image = images[0] if len(images) == 1 else path / "images/*.png"
            files[path.name] = ImageFiles(image, {class_name: path / "masks"})
        if not files:
            raise InputError(
                folder,
                "it lacks image folders",
                "Expected: <image>/images/<image>.png with <image>/masks/*.png",
            )
        return files

    def _label_files(
        self, files: ImageFiles, size: tuple[int, int]
    ) -> list[tuple[str, Path]]:
        """The packed label images of an image's masks."""
        ((class_name, folder),) = files.labels.items()
        paths = pack_masks(folder, size, Path(self.cache_dir).expanduser())
        return [(class_name, path) for path in paths]


def pack_masks(folder: Path, size: tuple[int, int], cache: Path) -> list[Path]:
    """Label images of a folder of bitmaps, written if they are absent.

    Args:
        folder: Holds ``*.png``, see :func:`custom.io.image.read_instances`. The n-th
            in alphabetical order gets the id n.
        size: (H, W) of the image.
        cache: Folder of the label images. They are used as long as each bitmap has the
            size and time of change that it had then.

    Returns:
        The label images, one unless instances overlap.

    Raises:
        InputError: There are no bitmaps, one cannot be used, or the cache cannot be
            written.
    """
    files = sorted(folder.glob("*.png"))
    if not files:
        raise InputError(
            folder,
            "it lacks masks (*.png)",
            "Expected: one bitmap per instance; take an image without any out of "
            "the data set",
        )
    key = hashlib.sha256(f"{os.path.realpath(folder)} {size}".encode())
    for path in files:
        stat = path.stat()
        key.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    name = key.hexdigest()[:32]
    if not (cache / f"{name}_1.tif").exists():
        masks = BoxMasks.from_patches(read_instances(files, size), size)
        planes = LabelMasks.from_rles(masks.to_rle(), size).planes
        try:
            # The first is written last: where it is, the others are.
            for number in range(len(planes), 0, -1):
                with write_atomically(cache / f"{name}_{number}.tif") as part:
                    tifffile.imwrite(part, planes[number - 1], compression="zlib")
        except OSError as error:
            raise InputError(
                cache,
                f"label images cannot be written there ({error.strerror})",
                "Set CELL_LABEL_CACHE to a folder that can be written",
            ) from None
    return sorted(cache.glob(f"{name}_*.tif"))


@DATASETS.register_module()
class LabelImageDataset(CellDataset):
    """Images with one label image of all cells, as StarDist's data sets have them.

    The layout is ``images/<image>.tif`` with ``masks/<image>.tif``; images of any kind,
    label images as TIFF or as PNG of 8 or 16 bits. Options and entries are those of
    :class:`CellDataset`, of one class.
    """

    METAINFO: ClassVar[dict] = {"classes": ("nucleus",)}

    def _scan(self, folder: Path) -> dict[str, ImageFiles]:
        """The image and the label image of each name."""
        (class_name,) = _one_class(self)
        subfolders(folder)  # says so if there is none
        images, masks = (_by_stem(folder / part) for part in ("images", "masks"))
        if not images or not masks:
            raise InputError(
                folder,
                f"{len(images)} images and {len(masks)} masks are in it",
                "Expected: images/<image>.tif with masks/<image>.tif",
            )
        alone = sorted(set(images) ^ set(masks))
        if alone:
            raise InputError(
                (images | masks)[alone[0]],
                f"{len(alone)} files lack a partner of the same name in images or "
                "masks, this one for example",
                "Each image needs a label image, one of zeros if it has no cells",
            )
        return {
            name: ImageFiles(image, {class_name: masks[name]})
            for name, image in images.items()
        }


def _one_class(dataset: CellDataset) -> Iterable[str]:
    classes = dataset.metainfo["classes"]
    if len(classes) != 1:
        raise InputError(
            "metainfo",
            f"{len(classes)} classes ({', '.join(classes)}), but the layout tells "
            "cells of one class only",
            "Give one class, or use CellDataset or CocoCellDataset",
        )
    return classes


def _images(folder: Path) -> list[Path]:
    """The images directly in a folder, which may be absent; hidden files are left."""
    return sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _images(folder):
        if files.setdefault(path.stem, path) != path:
            raise InputError(
                path, f"{files[path.stem].name} has the same name", "Keep one"
            )
    return files
