"""Reading from disk: an epoch, the size of an image, and opening a slide.

Of an epoch both sides decode every image and its label images once. The plain loop of
tifffile.imread stops there. Our decoding also drops alpha, checks the ids and makes
them integers; the loaders then turn RGB into BGR, lay the classes into one plane and
find the boxes of all instances. The size of a PNG comes from its header, and opening a
TIFF in JPEG tiles reads none of them.

Example::

    python benchmarks/bench_reading.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import tempfile
from pathlib import Path

import cv2
import numpy as np
import tifffile
from bench_tiles import write_pyramid
from samples import entries

from custom.io.image import image_size
from custom.io.slide import open_image
from custom.transforms import LoadCellImage, LoadLabelMasks


def plain(labels: bool = True):
    """A function that reads entries with tifffile alone."""

    def run(data: list[dict]) -> None:
        for entry in data:
            tifffile.imread(entry["img_path"])
            if labels:
                for _, path in entry["label_files"]:
                    tifffile.imread(path)

    return run


def loaders(*steps):
    """A function that runs transforms over entries."""

    def run(data: list[dict]) -> None:
        for entry in data:
            results = {**entry}
            for step in steps:
                results = step.transform(results)

    return run


def png(folder: Path) -> Path:
    """A PNG of 4000² of noise."""
    path = folder / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8)
    cv2.imwrite(str(path), noise)
    return path


def slide(folder: Path) -> Path:
    """A pyramid of 8000² in JPEG tiles."""
    write_pyramid(folder / "slide.tif", 8000, 120)
    return folder / "slide.tif"


def every_tile(path: Path) -> tuple[int, ...]:
    """(H, W) of a TIFF whose tiles are all read, not decoded."""
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            for _ in file.filehandle.read_segments(
                page.dataoffsets, page.databytecounts
            ):
                pass
        return file.pages[0].shape[:2]


def opened(path: Path) -> tuple[int, ...]:
    """(H, W) of a TIFF that is opened as tools/predict.py does."""
    image = open_image(path)
    image.close()
    return tuple(image.size)


def headers() -> list[Case]:
    """The properties of a file that need no decoding of pixels."""
    folder = tempfile.TemporaryDirectory()  # goes with the cases
    return [
        Case(
            name,
            lambda make=make: make(Path(folder.name)),
            stock,
            ours,
            0,
            against=against,
            same=lambda a, b: a == b,
        )
        for name, make, stock, ours, against in (
            (
                "size of a PNG of 4000²",
                png,
                lambda path: cv2.imread(str(path)).shape[:2],
                image_size,
                "OpenCV, which decodes it",
            ),
            (
                "open a pyramid of 8000² in JPEG tiles",
                slide,
                every_tile,
                opened,
                "reading each tile, by hand",
            ),
        )
    ]


def cases(root) -> list[Case]:
    """Files' headers, images alone, and images with labels."""
    data = entries(root)
    count = sum(sum(entry["counts"]) for entry in data)
    return headers() + [
        Case(
            f"read, epoch of {len(data)} images: {name}",
            lambda: data,
            stock,
            ours,
            count,
            against="a loop of tifffile.imread",
            warm_up=lambda d: d[:1],
        )
        for name, stock, ours in (
            ("image", plain(labels=False), loaders(LoadCellImage())),
            ("image and labels", plain(), loaders(LoadCellImage(), LoadLabelMasks())),
        )
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
