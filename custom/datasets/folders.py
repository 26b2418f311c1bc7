"""Data sets of one class in the layouts of other projects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from mmdet.registry import DATASETS

from custom.datasets.cell import CellDataset, ImageFiles, subfolders
from custom.errors import InputError
from custom.io.mask_folder import pack_mask_folder
from custom.io.names import IMAGE_SUFFIXES


@DATASETS.register_module()
class NucleiDataset(CellDataset):
    """Images with one bitmap per nucleus.

    The layout is ``<image>/images/<image>.png`` with ``<image>/masks/*.png``: the
    nuclei task of 2021 and the 2018 Data Science Bowl. The bitmaps of an image are
    packed into a label image once. Options and entries are those of
    :class:`CellDataset`, of one class.

    Args:
        cache_dir: Folder of the label images, see
            :func:`custom.io.mask_folder.pack_mask_folder`.
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
        paths = pack_mask_folder(folder, size, self.cache_dir)
        return [(class_name, Path(path)) for path in paths]


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
