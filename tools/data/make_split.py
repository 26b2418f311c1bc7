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
from custom.io.names import IGNORE


def images_of(source: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """File and classes of each image of a folder, or of a config's training set.

    Raises:
        InputError: The folder lacks images, or the data set refuses them.
    """
    if source.suffix == ".py":
        return _images_of_config(source)
    image_of = {path.parent.name: path for path in source.glob("*/image.tif")}
    if not image_of:
        raise InputError(
            source,
            "no <image>/image.tif in it",
            "Name the folder train/, or the config of data in another layout",
        )
    return image_of, {
        name: [
            file.stem
            for file in path.parent.glob("*.tif")
            if file.stem not in ("image", IGNORE)
        ]
        for name, path in image_of.items()
    }


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
    name = args.split if "_seed" in args.split else f"{args.split}_seed{args.seed}"
    folds = re.fullmatch(r"((?:grouped-)?kfold_\d+)(_seed\d+)", name)
    if args.split == "all":
        names = ["all"]
    elif folds:
        count = int(folds[1].split("_")[1])
        if count < 2:
            raise InputError(
                args.split, "at least two folds are needed", "Ask for more"
            )
        names = [f"{folds[1]}-{i}{folds[2]}" for i in range(count)]
    else:
        names = [name]
    # All folds or none: what is wrong with one shows before the first is written.
    splits = {
        args.out / f"{name}.json": make_split(
            name, classes_of, args.folder, patients, image_of
        )
        for name in names
    }
    for path in splits:
        if path.exists():
            raise InputError(path, "it exists already", "Choose another --out")
    for path, split in splits.items():
        split.save(path)
        print(f"{path}: {len(split.train)} train, {len(split.val)} val")


if __name__ == "__main__":
    run_tool(main)
