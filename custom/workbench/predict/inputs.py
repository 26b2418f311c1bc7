"""Find images by files, folders, patterns and pages."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from custom.errors import InputError
from custom.io.names import IMAGE_SUFFIXES, files_below, image_name
from custom.io.slide import SLIDE_SUFFIXES
from custom.io.tiff import check_no_stack, images_of, is_tiff, open_tiff

SUFFIXES = (*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)


@dataclass(frozen=True)
class ImageInput:
    """One image to be predicted.

    Attributes:
        path: Its file.
        page: Its page, if the file is a TIFF.
        name: Of its results: a relative path without suffix.
    """

    path: Path
    page: int
    name: str

    def __str__(self) -> str:
        return f"{self.path} (page {self.page + 1})" if self.page else str(self.path)


def find_images(
    arguments: Iterable[str | Path], leave_out: Path | None = None
) -> list[ImageInput]:
    """The images of the arguments, each once, in their order.

    A result is named after its image: ``a/b.png`` is ``b``; an image that is called
    ``image`` has the name of its folder, as in the layout; images of a folder keep
    the folders between; page n of several is ``b_page<n>``.

    Args:
        arguments: Files of any name; folders, of which every image is taken at any
            depth; patterns such as ``slides/**/*.svs`` that the shell left.
        leave_out: A folder to exclude, such as that of the results.

    Raises:
        InputError: A file does not exist, nothing matches, or two images would have one
            name.
    """
    arguments = list(arguments)
    images: dict[tuple[Path, int], ImageInput] = {}
    leave_out = leave_out and leave_out.resolve()
    for argument in arguments:
        for path, name in _files(str(argument)):
            full = path.resolve()
            if leave_out in full.parents:
                continue
            pages = _pages(path)
            for page in pages:
                suffix = f"_page{page + 1}" if len(pages) > 1 else ""
                image = ImageInput(path, page, name.as_posix() + suffix)
                images.setdefault((full, page), image)
    if not images:
        raise InputError(
            " ".join(map(str, arguments)),
            "no image matches",
            f"Give files, or folders with {', '.join(SUFFIXES)}",
        )
    return _unique(list(images.values()))


def _pages(path: Path) -> list[int]:
    """The pages of a file that are images; of one that cannot be read the first."""
    if not is_tiff(path):
        return [0]
    try:
        with open_tiff(path) as file:
            check_no_stack(path, file)
            return [levels[0].index for levels in images_of(file)] or [0]
    except InputError:  # raised again when it is read
        return [0]


def _unique(images: list[ImageInput]) -> list[ImageInput]:
    """The images, with the file's suffix in the name where two would share one.

    Raises:
        InputError: Two files of one name lie in different folders.
    """
    # Some file systems do not tell a from A.
    shared = Counter(image.name.lower() for image in images)
    images = [
        replace(image, name=image.name + image.path.suffix)
        if shared[image.name.lower()] > 1
        else image
        for image in images
    ]
    names: dict[str, ImageInput] = {}
    for image in images:
        other = names.setdefault(image.name.lower(), image)
        if other is not image:
            raise InputError(
                image.path,
                f"its results would have the name of those of {other.path}",
                "Predict them one after the other, into two folders",
            )
    return images


def _files(argument: str) -> Sequence[tuple[Path, PurePath]]:
    """Files and the names of their results."""
    path = Path(argument)
    if path.is_dir():
        below = files_below(path, SUFFIXES)
        return [(file, _name_in(file.relative_to(path))) for file in below]
    paths = [path]
    if not path.exists():
        paths = sorted(map(Path, glob.glob(argument, recursive=True)))
    if not paths:
        raise InputError(argument, "the file does not exist", "Check the name")
    files = filter(Path.is_file, paths)
    return [(file, PurePath(image_name(file.absolute()))) for file in files]


def _name_in(path: PurePath) -> PurePath:
    in_own_folder = path.stem == "image" and path.parent.name
    return path.parent if in_own_folder else path.with_suffix("")
