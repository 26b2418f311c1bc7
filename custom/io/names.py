"""Reserved class names, suffixes of image files, TCGA patients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from custom.errors import InputError

#: The class of regions that are neither cells nor background. Training and evaluation
#: leave them out.
IGNORE = "ignore"
#: Stands for the number of a class where a list of labels holds such regions.
IGNORE_LABEL = -1
#: The class of instances whose source does not name one.
NUCLEUS = "nucleus"
IMAGE_SUFFIXES = (".svs", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
#: The first three fields of a TCGA barcode name the patient:
#: https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/
TCGA_PATIENT = re.compile(r"TCGA-\w{2}-\w{4}")


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of some kinds in a folder and its subfolders, sorted.

    Hidden files are left out.

    Raises:
        InputError: The folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "Check the name")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def image_name(path: PurePath) -> str:
    """Return the name of an image: its stem, or its folder's if it is ``image.*``."""
    return path.parent.name if path.stem == "image" and path.parent.name else path.stem
