r"""Write the label images of a data set as one COCO JSON file.

Examples::

    python tools/data/export_coco.py data/hw3/train --out coco/all.json
    python tools/data/export_coco.py data/hw3/train --out coco/val.json \
        --split stratified_80-20_seed42 --subset val

``file_name`` is relative to the folder. MMDetection's own CocoDataset reads the file
with ``data_prefix=dict(img=<folder>)`` and the classes class1 to class4.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tqdm import tqdm

from custom.datasets import CellDataset
from custom.datasets.splits import NAMES
from custom.errors import InputError
from custom.io.coco import coco_dataset, write_json


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the training images")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument(
        "--split", default="all", help=f"a split file, or one of {NAMES}"
    )
    parser.add_argument("--subset", choices=["train", "val"], default="train")
    args = parser.parse_args()
    if args.out.exists():
        raise InputError(args.out, "it exists already", "Choose another --out")

    dataset = CellDataset(
        data_prefix={"img": str(args.folder)},
        split=args.split,
        subset=args.subset,
        serialize_data=False,
    )
    classes = dataset.metainfo["classes"]
    entries = tqdm(dataset.data_list, desc="encode", unit="image", delay=1)
    data = coco_dataset(entries, classes)
    write_json(data, args.out)
    counts = Counter(annotation["category_id"] for annotation in data["annotations"])
    listed = ", ".join(f"{counts[i]} {name}" for i, name in enumerate(classes, 1))
    print(f"{args.out}: {len(data['images'])} images, {listed}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
