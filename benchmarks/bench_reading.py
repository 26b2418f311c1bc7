"""Reading an epoch from disk: the loaders against a plain loop of tifffile.imread.

Both sides decode every image and its label images once. The plain loop stops there. Our
decoding also drops alpha, checks the ids and makes them integers; the loaders then turn
RGB into BGR, lay the classes into one plane and find the boxes of all instances.

Example::

    python benchmarks/bench_reading.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import tifffile
from samples import entries

from custom.io.image import read_image, read_labels
from custom.transforms import LoadCellImage, LoadLabelMasks


def plain(image: bool = True, labels: bool = True):
    """A function that reads entries with tifffile alone."""

    def run(data: list[dict]) -> None:
        for entry in data:
            if image:
                tifffile.imread(entry["img_path"])
            if labels:
                for _, path in entry["label_files"]:
                    tifffile.imread(path)

    return run


def decode(data: list[dict]) -> None:
    """Read entries as the loaders do, before they gather instances."""
    for entry in data:
        read_image(entry["img_path"])
        for _, path in entry["label_files"]:
            read_labels(path)


def loaders(*steps):
    """A function that runs transforms over entries."""

    def run(data: list[dict]) -> None:
        for entry in data:
            results = {**entry}
            for step in steps:
                results = step.transform(results)

    return run


def cases(root) -> list[Case]:
    """Images alone, and images with labels."""
    data = entries(root)
    count = sum(sum(entry["counts"]) for entry in data)
    epoch = f"read, epoch of {len(data)} images"
    return [
        Case(
            name,
            lambda: data,
            stock,
            ours,
            count,
            against="a loop of tifffile.imread",
            repeats=11,
            same=same,
            warm_up=lambda d: d[:1],
        )
        for name, stock, ours, same in (
            (
                f"{epoch}: image alone",
                plain(labels=False),
                loaders(LoadCellImage()),
                None,
            ),
            (f"{epoch}: decode and check alone", plain(), decode, None),
            (
                f"{epoch}: image and labels",
                plain(),
                loaders(LoadCellImage(), LoadLabelMasks()),
                None,
            ),
        )
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
