"""Data set of images with one label image per class; base of all cell data sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from tqdm import tqdm

from custom.datasets.image_check import check_images
from custom.datasets.samplers import SeededDraws
from custom.datasets.splits import Split, find_split
from custom.errors import InputError
from custom.io.colours import class_palette
from custom.io.image import check_labels, image_size
from custom.io.names import IGNORE, IGNORE_LABEL
from custom.io.tiff import TIFF_SUFFIXES
from custom.transforms.loading import image_loader


class ImageFiles(NamedTuple):
    """An image, and its label images or folders of masks by their names on disk."""

    image: Path
    labels: dict[str, Path]


@DATASETS.register_module()
class CellDataset(SeededDraws, BaseDetDataset):
    """Images with one label image per class.

    The layout is ``<image>/image.tif`` with ``<class>.tif`` beside it, one for each
    class that the image has; an image without any is a valid negative. ``ignore.tif``
    is a label image of regions that are neither cells nor background.

    The index holds paths, sizes and counts, not pixels. Building it reads every label
    image once, so that a bad file ends the run before training. A few images are read
    too, see :func:`custom.datasets.image_check.check_images`.

    Args:
        split: A split file (``.json``) or the name of a rule, see
            :func:`custom.datasets.splits.find_split`.
        subset: ``'train'`` or ``'val'``.
        bad_files: ``'error'`` stops at the first image that cannot be used;
            ``'skip'`` leaves such images out, counts and lists them; ``left_out`` has
            the reasons.
        class_of: The class of each name on disk that is not one; several names may be
            one class, and ``'ignore'`` marks regions to ignore.
        metainfo: ``dict(classes=...)``, any number of names; ``palette`` is optional.

    Each entry has ``img_path, img_id, name, height, width``, ``label_files``, a list of
    (label, path), where the label -1 is that of regions to ignore, and ``counts``, the
    instances of each class.
    """

    METAINFO: ClassVar[dict] = {"classes": ("class1", "class2", "class3", "class4")}

    def __init__(
        self,
        *args,
        split: str | Split = "all",
        subset: str = "train",
        bad_files: str = "error",
        class_of: Mapping[str, str] | None = None,
        **kwargs,
    ) -> None:
        if subset not in ("train", "val"):
            raise InputError("subset", f"{subset!r} is unknown", "Use 'train' or 'val'")
        if bad_files not in ("error", "skip"):
            remedy = "Use 'error' or 'skip'"
            raise InputError("bad_files", f"{bad_files!r} is unknown", remedy)
        self.split_spec, self.subset, self.bad_files = split, subset, bad_files
        self.class_of = dict(class_of or {})
        self.split: Split | None = None
        self.left_out: list[InputError] = []
        super().__init__(*args, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        """The data set's metadata, with a colour for each class."""
        classes = (metainfo or {}).get("classes", ("class",))
        names = [] if isinstance(classes, str) else list(classes)
        if not all(names) or not names or len(set(names)) < len(names):
            raise InputError(
                "metainfo",
                f"classes={classes!r} is not a list of unique names",
                "Write, for example, metainfo=dict(classes=('nucleus',))",
            )
        facts = super()._load_metainfo(metainfo)
        facts["palette"] = class_palette(len(facts["classes"]), facts.get("palette"))
        return facts

    def load_data_list(self) -> list[dict]:
        """Build the index: one entry per image.

        Raises:
            InputError: See :mod:`custom.io.image` for files; also an empty folder, an
                unknown class file, a split that does not fit, or colours that
                contradict the order that the pipeline is told.
        """
        folder = Path(self.data_prefix["img"])
        files = self._scan(folder)
        label_of, classes = self._label_of(), self.metainfo["classes"]
        classes_of = {}
        for name, one in files.items():
            present = {label_of.get(key, IGNORE_LABEL) for key in one.labels}
            classes_of[name] = [c for i, c in enumerate(classes) if i in present]
        images = {name: one.image for name, one in files.items()}
        self.split = find_split(self.split_spec, classes_of, folder, images)
        names = getattr(self.split, self.subset)
        if not names:
            raise InputError(
                folder,
                f"the split {self.split.name} lacks {self.subset} images",
                "Choose another split, or set val_dataloader, val_evaluator and "
                "val_cfg to None to train without validation",
            )
        # The id of an image must not depend on the split.
        ids = {name: i for i, name in enumerate(sorted(files), 1)}
        return self._index(names, lambda n: self._entry(n, ids[n], files[n]))

    def _label_of(self) -> dict[str, int]:
        """The label of each name that a class has on disk."""
        label_of = {name: i for i, name in enumerate(self.metainfo["classes"])}
        label_of[IGNORE] = IGNORE_LABEL
        for key, name in self.class_of.items():
            if name not in label_of:
                raise InputError(
                    "class_of",
                    f"{key!r} becomes {name!r}, which is not a class",
                    f"Use one of {', '.join(label_of)}",
                )
        return {**label_of, **{k: label_of[v] for k, v in self.class_of.items()}}

    def _scan(self, folder: Path) -> dict[str, ImageFiles]:
        """The files of each image of the folder, by the image's name."""
        files = {}
        for path in subfolders(folder):
            tiffs = [f for f in path.iterdir() if f.suffix.lower() in TIFF_SUFFIXES]
            labels = {f.name.removesuffix(".tif"): f for f in tiffs}
            labels.pop("image", None)
            files[path.name] = ImageFiles(path / "image.tif", labels)
        if not files:
            raise InputError(
                folder,
                "it lacks image folders",
                "Expected: <image>/image.tif with class1.tif ... beside it",
            )
        return files

    def _label_files(
        self, files: ImageFiles, size: tuple[int, int]
    ) -> list[tuple[str, Path]]:
        """(name on disk, label image) of an image of (H, W) ``size``."""
        return list(files.labels.items())

    def _entry(self, name: str, img_id: int, files: ImageFiles) -> dict:
        """Check one image and describe it."""
        classes, label_of = self.metainfo["classes"], self._label_of()
        unknown = sorted(set(files.labels) - set(label_of))
        if unknown:
            raise InputError(
                files.labels[unknown[0]],
                f"not a class of this data set ({', '.join(classes)})",
                "Remove the file, or name the class in the data set's metainfo",
            )
        if not files.image.is_file():
            reason = f"{files.image.name} is missing"
            raise InputError(files.image.parent, reason, "Add it, or remove the folder")
        size = image_size(files.image)
        label_files, counts = [], [0] * len(classes)
        for key, path in self._label_files(files, size):
            count = check_labels(path, size)
            label_files.append((label_of[key], str(path)))
            if label_of[key] != IGNORE_LABEL:
                counts[label_of[key]] += count
        # In the order of the classes, regions to ignore last.
        label_files.sort(key=lambda file: (file[0] == IGNORE_LABEL, *file))
        return {
            "img_path": str(files.image),
            "img_id": img_id,
            "name": name,
            "height": size[0],
            "width": size[1],
            "label_files": label_files,
            "counts": counts,
        }

    def _index(
        self, names: Iterable[str], entry_of: Callable[[str], dict]
    ) -> list[dict]:
        """Describe all images in threads: decoding releases the GIL."""

        def attempt(name: str) -> dict | InputError:
            try:
                return entry_of(name)
            except InputError as error:
                if self.bad_files == "error":
                    raise
                return error

        names = list(names)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            results = list(
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
        self.left_out = [e for e in results if isinstance(e, InputError)]
        if self.left_out:
            lines = "\n".join(f"  {error}" for error in self.left_out)
            print_log(
                f"{len(self.left_out)} of {len(results)} images are left out:\n{lines}",
                "current",
            )
        data = [entry for entry in results if not isinstance(entry, InputError)]
        folder = self.data_prefix["img"]
        if not data:
            raise InputError(folder, "no image can be used", "See the list above")
        check_images([e["img_path"] for e in data], image_loader(self), folder)
        return data

    def files(self) -> dict[str, str]:
        """The files of all images, by names that do not depend on the folder.

        The name is ``<image>/image``, ``<image>/<class>`` or ``<image>/ignore``; other
        files of a class are ``<image>/<class>_2`` and so on.
        """
        names = {**dict(enumerate(self.metainfo["classes"])), IGNORE_LABEL: IGNORE}
        paths = {}
        for entry in map(self.get_data_info, range(len(self))):
            paths[f"{entry['name']}/image"] = entry["img_path"]
            seen: Counter = Counter()
            for label, path in entry["label_files"]:
                seen[label] += 1
                number = f"_{seen[label]}" if seen[label] > 1 else ""
                paths[f"{entry['name']}/{names[label]}{number}"] = path
        return paths

    def filter_data(self) -> list[dict]:
        """Drop images without cells if ``filter_cfg['filter_empty_gt']`` says so."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        return [entry for entry in self.data_list if sum(entry["counts"])]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The labels of an image, one per instance (for ``ClassBalancedDataset``)."""
        counts = self.get_data_info(idx)["counts"]
        return [label for label, n in enumerate(counts) for _ in range(n)]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, sorted.

    Raises:
        InputError: The folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(
            folder,
            "the folder of the images does not exist",
            "Set data_root and data_prefix, or for configs/cell the environment "
            "variable CELL_DATA_ROOT (2021 task: NUCLEI_DATA_ROOT), to the "
            "folder that holds it",
        )
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())
