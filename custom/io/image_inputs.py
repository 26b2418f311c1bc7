"""The images that a user means by files, folders, patterns and pages."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import tifffile

from custom.errors import InputError
from custom.io.image import check_no_stack, is_tiff
from custom.io.names import IMAGE_SUFFIXES, files_below, image_name

# Beyond this a TIFF is no collection of images but broken.
_MAX_PAGES = 100_000


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
    """The images that are meant, each once, in the order of the arguments.

    A result is named after its image: ``a/b.png`` is ``b``; an image that is called
    ``image`` has the name of its folder, as in the layout; images of a folder keep
    the folders between; page n of several is ``b_page<n>``.

    Args:
        arguments: Files of any name; folders, of which every image is taken at any
            depth; patterns such as ``slides/**/*.svs`` that the shell left.
        leave_out: A folder whose files are no input, such as that of the results.

    Raises:
        InputError: There is no such file, nothing matches, or two images would have
            one name.
    """
    arguments = list(arguments)
    found: dict[tuple[Path, int], ImageInput] = {}
    leave_out = leave_out and leave_out.resolve()
    for argument in arguments:
        for path, name in _files(str(argument)):
            full = path.resolve()
            if leave_out is not None and leave_out in full.parents:
                continue
            pages = image_pages(path)
            for page in pages:
                suffix = f"_page{page + 1}" if len(pages) > 1 else ""
                image = ImageInput(path, page, name.as_posix() + suffix)
                found.setdefault((full, page), image)
    if not found:
        raise InputError(
            " ".join(map(str, arguments)),
            "there is no image",
            f"Give files, or folders with {', '.join(IMAGE_SUFFIXES)}",
        )
    names: dict[str, ImageInput] = {}
    for image in found.values():
        # Some file systems do not tell a from A.
        other = names.setdefault(image.name.lower(), image)
        if other is not image:
            raise InputError(
                image.path,
                f"its results would have the name of those of {other.path}",
                "Predict them one after the other, into two folders",
            )
    return list(found.values())


def _files(argument: str) -> Sequence[tuple[Path, PurePath]]:
    """Files and the names of their results."""
    path = Path(argument)
    if path.is_dir():
        below = files_below(path, IMAGE_SUFFIXES)
        return [(file, _name_in(file.relative_to(path))) for file in below]
    matches = (
        [path]
        if path.exists()
        else sorted(map(Path, glob.glob(argument, recursive=True)))
    )
    if not matches:
        raise InputError(argument, "there is no such file", "Check the name")
    return [
        (match, PurePath(image_name(match.absolute())))
        for match in matches
        if match.is_file()
    ]


def _name_in(path: PurePath) -> PurePath:
    own = path.stem == "image" and path.parent.name
    return path.parent if own else path.with_suffix("")


def image_pages(path: Path) -> list[int]:
    """The pages of a file that are images of their own.

    Smaller levels of a pyramid are not, nor are a slide's thumbnail and label. A file
    that cannot be read has one page, and the error when it is read.
    """
    if not is_tiff(path):
        return [0]
    try:
        with tifffile.TiffFile(path) as file:
            if file.is_svs or (file.is_ome and len(file.pages) == 1):
                return [0]
            check_no_stack(path, file)
            sizes, images = [], []
            for number, page in enumerate(file.pages[:_MAX_PAGES]):
                size = int(page.imagelength), int(page.imagewidth)
                level = any(_is_level(size, larger) for larger in sizes)
                if not (images and (page.is_reduced or level)):
                    images.append(number)
                    sizes = [size]
            return images or [0]
    except Exception:  # tifffile lets many types through on broken files
        return [0]


def _is_level(size: tuple[int, int], larger: tuple[int, int]) -> bool:
    """Whether one size is the other, divided by 1.5 or more, up to rounding."""
    factor = larger[0] / max(size[0], 1)
    return factor >= 1.5 and abs(larger[1] / factor - size[1]) <= 1 + 1 / factor
