"""The single-class nuclei data set of 2021 in its released layout."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from mmdet.registry import DATASETS

from custom.datasets.cell import PALETTE, CellDataset
from custom.errors import InputError
from custom.io.image import check_labels, image_size
from custom.io.mask_folder import pack_mask_folder


@DATASETS.register_module()
class NucleiDataset(CellDataset):
    """Images with one bitmap per nucleus.

    The layout is ``<image>/images/<image>.png`` with ``<image>/masks/*.png``, also that
    of the 2018 Data Science Bowl. The bitmaps of an image are packed into a label image
    once; from there on everything is as in :class:`CellDataset`, whose options and
    entries these are.

    Args:
        cache_dir: Folder of the label images, see
            :func:`custom.io.mask_folder.pack_mask_folder`; empty for one that is
            removed when the process ends.
    """

    METAINFO: ClassVar[dict] = {"classes": ("nucleus",), "palette": PALETTE[:1]}

    def __init__(self, *args, cache_dir: str, **kwargs) -> None:
        if cache_dir in ("", "none"):
            cache_dir = tempfile.mkdtemp(prefix="mmcell-")
            atexit.register(shutil.rmtree, cache_dir, ignore_errors=True)
        self.cache_dir = cache_dir
        super().__init__(*args, **kwargs)

    def _scan(self, folder: str) -> dict[str, set[str]]:
        """The images, each with the one label image that it will have."""
        if not os.path.isdir(folder):
            raise InputError(
                folder,
                "the folder of the training images does not exist",
                "Set the environment variable NUCLEI_DATA_ROOT to the folder that "
                "holds train/, or put the data in data/nuclei2021",
            )
        images = {e.name: {"nucleus.tif"} for e in os.scandir(folder) if e.is_dir()}
        if not images:
            raise InputError(
                folder,
                "there is no image folder in it",
                "Expected is <image>/images/<image>.png with <image>/masks/*.png",
            )
        return images

    @staticmethod
    def _image_path(folder: Path) -> Path:
        """The image of a folder."""
        return folder / "images" / f"{folder.name}.png"

    def _entry(self, folder: Path, img_id: int, files: set[str]) -> dict:
        """Check one image, pack its masks and describe it."""
        path = self._image_path(folder)
        size = image_size(path)
        labels = pack_mask_folder(folder / "masks", size, self.cache_dir)
        return {
            "img_path": str(path),
            "img_id": img_id,
            "name": folder.name,
            "height": size[0],
            "width": size[1],
            "label_files": [(0, path) for path in labels],
            "counts": [sum(check_labels(path, size) for path in labels)],
        }
