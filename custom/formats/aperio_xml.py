"""Annotations of Aperio ImageScope, as MoNuSAC and MoNuSeg are published.

``Annotations > Annotation > Regions > Region > Vertices > Vertex``: an Annotation is a
layer, and its first ``Attribute`` holds the name of the class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.parsers import expat

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import Annotated, Source
from custom.formats.patches import Patch
from custom.formats.polygons import fill, fill_with_outline
from custom.formats.sources import find_pairs
from custom.io.image import image_size, read_image
from custom.io.names import IGNORE, NUCLEUS, files_below

#: Classes of MoNuSAC 2020 in the four-class layout.
MONUSAC_CLASSES = {
    "Epithelial": "class1",
    "Lymphocyte": "class2",
    "Neutrophil": "class3",
    "Macrophage": "class4",
    "Ambiguous": IGNORE,
}
_MAX_BYTES = 1 << 29
_MAX_DEPTH = 16
_MAX_VERTICES = 1 << 20
_NUMBER = re.compile(r"_\d+$")
_FREEHAND, _RECTANGLE = "0", "1"
_REMEDY = "Save the annotations of ImageScope again"


def find_monusac(root: Path, images: Path | None = None) -> Source:
    """The XML files of a folder with regions of MoNuSAC, see :func:`read_monusac`.

    Args:
        root: Holds them, at any depth.
        images: Folder of the images; None if they are in ``root`` too.

    Raises:
        InputError: There is none, or see :func:`custom.formats.sources.find_pairs`.
    """
    classes = tuple(c for c in MONUSAC_CLASSES if MONUSAC_CLASSES[c] != IGNORE)
    return _find(root, images, read_monusac, classes)


def find_monuseg(root: Path, images: Path | None = None) -> Source:
    """The XML files of a folder with tiles of MoNuSeg, as :func:`find_monusac`."""
    return _find(root, images, read_monuseg, (NUCLEUS,))


def _find(
    root: Path,
    images: Path | None,
    read: Callable[[Path, Path], Annotated],
    classes: tuple[str, ...],
) -> Source:
    files = files_below(root, (".xml",))
    if not files:
        raise InputError(root, "no .xml files in it", "Check the name")
    named = [(path.stem, path) for path in files]
    return Source(root, find_pairs(named, images or root, read), classes)


@dataclass
class Region:
    """One outline.

    Args:
        layer: Name of the class, stripped, '' if the file gives none.
        kind: ImageScope's type: 0 freehand, 1 rectangle, 2 ellipse, 3 arrow, 4 ruler.
        negative: It is cut out of others ("negative region of analysis").
        vertices: (V, 2) float64 (x, y).
    """

    layer: str
    kind: str
    negative: bool
    vertices: np.ndarray


class ImageScopeFile:
    """The regions of a file, read one after another in bounded memory.

    Args:
        path: The XML file.

    Attributes:
        microns_per_pixel: Known once the regions are read; None if the file has none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.microns_per_pixel: float | None = None
        self._open: list[str] = []
        self._layer = self._fallback = ""
        self._region: dict | None = None
        self._vertices: list[tuple[float, float]] = []
        self._done: list[Region] = []

    def __iter__(self) -> Iterator[Region]:
        """Yield the regions.

        Raises:
            InputError: The file is missing, truncated, larger than 512 MiB or not
                ImageScope's; it declares entities; a vertex is not two finite numbers.
        """
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        # No part of the format; entities are how a small file becomes a huge one, or
        # reads others.
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        try:
            if self.path.stat().st_size > _MAX_BYTES:
                raise InputError(
                    self.path, "larger than 512 MiB", "Divide the annotations"
                )
            with self.path.open("rb") as file:
                more = True
                while more:
                    data = file.read(1 << 16)
                    more = bool(data)
                    parser.Parse(data, not more)
                    yield from self._done
                    self._done.clear()
        except expat.ExpatError as error:
            raise InputError(self.path, f"not XML ({error})", _REMEDY) from None
        except OSError as error:
            raise InputError(
                self.path, f"it cannot be read ({error.strerror})", "Check the name"
            ) from None

    def _refuse(self, *_) -> None:
        raise InputError(self.path, "it declares a type or entities", _REMEDY)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._open.append(tag)
        if self._open[0] != "Annotations":
            raise InputError(
                self.path, f"it holds <{tag[:40]}>, not <Annotations>", _REMEDY
            )
        if len(self._open) > _MAX_DEPTH:
            raise InputError(self.path, "its elements are nested too deep", _REMEDY)
        if tag == "Annotations":
            self.microns_per_pixel = _positive(attributes.get("MicronsPerPixel"))
        elif tag == "Annotation":
            self._layer, self._fallback = "", attributes.get("Name", "").strip()
        elif tag == "Attribute" and self._region is None and not self._layer:
            self._layer = attributes.get("Name", "").strip()
        elif tag == "Region":
            self._region, self._vertices = attributes, []
        elif tag == "Vertex" and self._region is not None:
            self._vertices.append(self._vertex(attributes))

    def _vertex(self, attributes: dict[str, str]) -> tuple[float, float]:
        try:
            x, y = float(attributes["X"]), float(attributes["Y"])
        except (KeyError, ValueError):
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(self.path, f"a vertex is {str(attributes)[:60]}", _REMEDY)
        if len(self._vertices) == _MAX_VERTICES:
            raise InputError(
                self.path, f"a region has more than {_MAX_VERTICES} vertices", _REMEDY
            )
        return x, y

    def _end(self, tag: str) -> None:
        self._open.pop()
        if tag == "Region" and self._region is not None:
            self._done.append(
                Region(
                    self._layer or self._fallback,
                    self._region.get("Type", _FREEHAND),
                    self._region.get("NegativeROA", "0") == "1",
                    np.array(self._vertices, np.float64).reshape(-1, 2),
                )
            )
            self._region = None


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def read_monusac(path: Path, image: Path) -> Annotated:
    """Read a region of MoNuSAC.

    The pixels are those of the challenge's own code, which fills each outline by
    ``skimage.draw.polygon``, later ones over earlier.

    Args:
        path: The XML file; the name of a layer is the class.
        image: The image, mostly ``.svs``.

    Raises:
        InputError: See :class:`ImageScopeFile` and :mod:`custom.io.image`; also if no
            outline covers a pixel of the image.
    """
    known = {name.lower(): name for name in MONUSAC_CLASSES}
    found = _read(
        path,
        image,
        lambda layer: known.get(layer.lower(), layer),
        fill_with_outline,
    )
    # <slide>_<number of the region>: the slide stands for a patient without barcode.
    found.facts["patient"] = _NUMBER.sub("", path.stem)
    return found


def read_monuseg(path: Path, image: Path) -> Annotated:
    """Read a tile of MoNuSeg, all layers as nuclei.

    The pixels are those of the challenge's own code, MATLAB's ``poly2mask``: the rule
    of :func:`custom.formats.polygons.fill`, but the centre of the first pixel is
    (1, 1). There, earlier outlines lie over later ones, so they are given in reverse.

    Args:
        path: The XML file.
        image: The image.

    Raises:
        InputError: As :func:`read_monusac`.
    """
    found = _read(
        path, image, lambda _: NUCLEUS, lambda ring, size: fill([ring - 0.5], size)
    )
    found.patches.reverse()
    return found


def _read(
    path: Path,
    image: Path,
    class_of: Callable[[str], str],
    rule: Callable[[np.ndarray, tuple[int, int]], Patch | None],
) -> Annotated:
    found = Annotated(path, image_size(image), partial(read_image, image))
    file = ImageScopeFile(path)
    total = 0
    for region in file:
        total += 1
        if region.negative:
            found.dropped["a negative region"] += 1
        elif region.kind not in (_FREEHAND, _RECTANGLE):
            found.dropped["an ellipse, an arrow or a ruler"] += 1
        else:
            try:
                found.add(class_of(region.layer), rule(region.vertices, found.size))
            except InputError:
                raise
            except ValueError as error:
                found.dropped[str(error)] += 1
    if total and not found.patches:
        raise InputError(
            path,
            f"none of its {total} regions covers a pixel of {image}",
            "Do image and annotation belong together?",
        )
    if file.microns_per_pixel:
        found.facts["microns_per_pixel"] = file.microns_per_pixel
    return found
