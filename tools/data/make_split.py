"""Write a split file.

Examples::

    python tools/data/make_split.py data/hw3/train stratified_90-10 --out splits/
    python tools/data/make_split.py data/hw3/train grouped_80-20 --patients patients.csv
    python tools/data/make_split.py data/hw3/train stain_80-20   # patients unknown
    python tools/data/make_split.py data/hw3/train kfold_5       # five files
    python tools/data/make_split.py my_config.py random_80-20    # any layout

A config names a split by its file, by the environment variable CELL_SPLIT, or by its
rule alone, in which case the same split is made when the data set is read.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from custom.datasets.splits import NAMES, make_split, patients_from_csv
from custom.errors import InputError, run_tool
from custom.formats.folders import classes_by_name, find_layout


def images_of(source: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """File and classes of each image of a folder, or of a config's training set.

    Raises:
        InputError: The folder lacks images, or the data set refuses them.
    """
    if source.suffix == ".py":
        return _images_of_config(source)
    layout = find_layout(source)
    return {item.name: item.files[0] for item in layout.items}, classes_by_name(layout)


def _images_of_config(path: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    from mmdet.registry import DATASETS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    settings = Config.fromfile(path).train_dataloader.dataset
    while "dataset" in settings:  # RepeatDataset and the like
        settings = settings.dataset
    init_default_scope("mmdet")
    dataset = DATASETS.build({**settings, "split": "all", "subset": "train"})
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    classes = dataset.metainfo["classes"]
    return {e["name"]: Path(e["img_path"]) for e in entries}, {
        e["name"]: [c for c, n in zip(classes, e["counts"], strict=True) if n]
        for e in entries
    }


def split_names(split: str, seed: int) -> list[str]:
    """The names of the splits that are asked for: one, or all folds.

    Raises:
        InputError: There would be fewer than two folds.
    """
    if split == "all":
        return [split]
    name = split if "_seed" in split else f"{split}_seed{seed}"
    folds = re.fullmatch(r"((?:grouped-)?kfold_(\d+))(_seed\d+)", name)
    if not folds:
        return [name]
    if int(folds[2]) < 2:
        raise InputError(split, "at least two folds are needed", "Ask for more")
    return [f"{folds[1]}-{number}{folds[3]}" for number in range(int(folds[2]))]


def main() -> None:
    """Make the split or, for k folds, the splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="folder of the training images, or a config"
    )
    parser.add_argument("split", help=f"{NAMES}; kfold_5 makes all five folds")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--patients", help="CSV with the columns name,patient")
    parser.add_argument("--out", type=Path, default=Path("data/splits"))
    args = parser.parse_args()

    image_of, classes_of = images_of(args.folder)
    patients = patients_from_csv(args.patients, classes_of) if args.patients else None
    # All folds or none: what is wrong with one shows before the first is written.
    splits = {
        args.out / f"{name}.json": make_split(
            name, classes_of, args.folder, patients, image_of
        )
        for name in split_names(args.split, args.seed)
    }
    for path in splits:
        if path.exists():
            raise InputError(path, "it exists already", "Choose another --out")
    for path, split in splits.items():
        split.save(path)
        print(f"{path}: {len(split.train)} train, {len(split.val)} val")


if __name__ == "__main__":
    run_tool(main)
