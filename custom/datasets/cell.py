"""The four-class cell data set in its released layout."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from tqdm import tqdm

from custom.datasets.splits import Split, find_split
from custom.errors import InputError
from custom.io.image import TIFF_SUFFIXES, check_labels, image_size
from custom.io.names import IGNORE, IGNORE_LABEL

# Colours that stay apart under colour blindness and on H&E: Wong, Nature Methods 8,
# 441 (2011).
PALETTE = [(0, 158, 115), (240, 228, 66), (86, 180, 233), (230, 159, 0)]


@DATASETS.register_module()
class CellDataset(BaseDetDataset):
    """Images with one label image per class.

    The layout is ``<image>/image.tif`` with ``class1.tif`` to ``class4.tif`` beside it.
    ``ignore.tif`` is a label image of regions that are neither cells nor background.

    A class is named after its file; a file that is not there means that the class is
    absent, and an image without any class file is a valid negative. The index holds
    paths, sizes and counts and no pixels, but making it reads every label image once,
    so that a bad file ends the run before it begins.

    Args:
        split: A split file (``.json``) or the name of a rule, see
            :func:`custom.datasets.splits.find_split`.
        subset: ``'train'`` or ``'val'``.
        bad_files: ``'error'`` stops at the first image that cannot be used;
            ``'skip'`` leaves such images out, counts and lists them; ``left_out`` has
            the reasons.

    Each entry has ``img_path, img_id, name, height, width``, ``label_files``, a list of
    (label, path), where the label -1 is that of ``ignore.tif``, and ``counts``, the
    instances of each class.
    """

    METAINFO: ClassVar[dict] = {
        "classes": ("class1", "class2", "class3", "class4"),
        "palette": PALETTE,
    }

    def __init__(
        self,
        *args,
        split: str = "all",
        subset: str = "train",
        bad_files: str = "error",
        **kwargs,
    ) -> None:
        if subset not in ("train", "val"):
            raise InputError("subset", f"{subset!r} is unknown", "Use 'train' or 'val'")
        if bad_files not in ("error", "skip"):
            raise InputError(
                "bad_files", f"{bad_files!r} is unknown", "Use 'error' or 'skip'"
            )
        self.split_spec, self.subset, self.bad_files = split, subset, bad_files
        self.split: Split | None = None
        self.left_out: list[InputError] = []
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Index the folder, see the class.

        Raises:
            InputError: See :mod:`custom.io.image` for files; also an empty folder, an
                unknown class file, or a split that does not fit.
        """
        folder = self.data_prefix["img"]
        files = self._scan(folder)
        classes_of = {
            name: [c for c in self.metainfo["classes"] if f"{c}.tif" in found]
            for name, found in files.items()
        }
        images = {name: self._image_path(Path(folder, name)) for name in files}
        self.split = find_split(self.split_spec, classes_of, folder, images)
        names = getattr(self.split, self.subset)
        if not names:
            raise InputError(
                folder,
                f"the split {self.split.name} has no {self.subset} images",
                "Choose another split, or set val_dataloader, val_evaluator and "
                "val_cfg to None to train without validation",
            )
        # The id of an image must not depend on the split.
        ids = {name: i for i, name in enumerate(sorted(files), 1)}
        return self._index(
            names, lambda n: self._entry(Path(folder, n), ids[n], files[n])
        )

    @staticmethod
    def _image_path(folder: Path) -> Path:
        """The image of a folder."""
        return folder / "image.tif"

    def _scan(self, folder: str) -> dict[str, set[str]]:
        """The TIFF files of each image folder."""
        if not os.path.isdir(folder):
            raise InputError(
                folder,
                "the folder of the training images does not exist",
                "Set the environment variable CELL_DATA_ROOT to the folder that holds "
                "train/, or put the data in data/hw3",
            )
        files = {
            entry.name: {
                f for f in os.listdir(entry.path) if f.lower().endswith(TIFF_SUFFIXES)
            }
            for entry in os.scandir(folder)
            if entry.is_dir()
        }
        if not files:
            raise InputError(
                folder,
                "there is no image folder in it",
                "Expected is <image>/image.tif with class1.tif ... beside it",
            )
        return files

    def _entry(self, folder: Path, img_id: int, files: set[str]) -> dict:
        """Check one image and describe it."""
        classes = self.metainfo["classes"]
        ignore = f"{IGNORE}.tif"
        known = {"image.tif", ignore, *(f"{c}.tif" for c in classes)}
        unknown = sorted(files - known)
        if unknown:
            raise InputError(
                folder / unknown[0],
                f"no class of this data set ({', '.join(classes)})",
                "Remove the file, or name the class in the data set's metainfo",
            )
        if "image.tif" not in files:
            raise InputError(
                folder, "image.tif is missing", "Add it, or remove the folder"
            )
        height, width = image_size(folder / "image.tif")
        label_files = [
            (label, str(folder / f"{c}.tif"))
            for label, c in enumerate(classes)
            if f"{c}.tif" in files
        ]
        counts = [0] * len(classes)
        for label, path in label_files:
            counts[label] = check_labels(path, (height, width))
        if ignore in files:
            check_labels(folder / ignore, (height, width))
            label_files.append((IGNORE_LABEL, str(folder / ignore)))
        return {
            "img_path": str(folder / "image.tif"),
            "img_id": img_id,
            "name": folder.name,
            "height": height,
            "width": width,
            "label_files": label_files,
            "counts": counts,
        }

    def _index(self, names, entry_of) -> list[dict]:
        """Describe all images in threads: decoding releases the GIL."""

        def attempt(name: str) -> dict | InputError:
            try:
                return entry_of(name)
            except InputError as error:
                if self.bad_files == "error":
                    raise
                return error

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = list(
                tqdm(
                    pool.map(attempt, names),
                    total=len(names),
                    desc=f"index {self.subset}",
                    unit="image",
                    delay=1,
                    leave=False,
                    disable=not is_main_process(),
                )
            )
        self.left_out = bad = [e for e in found if isinstance(e, InputError)]
        if bad:
            lines = "\n".join(f"  {error}" for error in bad)
            print_log(
                f"{len(bad)} of {len(found)} images are left out:\n{lines}", "current"
            )
        data = [entry for entry in found if not isinstance(entry, InputError)]
        if not data:
            raise InputError(
                self.data_prefix["img"], "no image can be used", "See the list above"
            )
        return data

    def files(self) -> dict[str, str]:
        """The files of all images, by names that do not tell where they are.

        The name is ``<image>/image``, ``<image>/<class>`` or ``<image>/ignore``.
        """
        names = {**dict(enumerate(self.metainfo["classes"])), IGNORE_LABEL: IGNORE}
        found = {}
        for entry in map(self.get_data_info, range(len(self))):
            found[f"{entry['name']}/image"] = entry["img_path"]
            for label, path in entry["label_files"]:
                found[f"{entry['name']}/{names[label]}"] = path
        return found

    def filter_data(self) -> list[dict]:
        """Drop images without cells if ``filter_cfg['filter_empty_gt']`` says so."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        return [entry for entry in self.data_list if sum(entry["counts"])]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The labels of an image, one per instance (for ``ClassBalancedDataset``)."""
        counts = self.get_data_info(idx)["counts"]
        return [label for label, n in enumerate(counts) for _ in range(n)]
