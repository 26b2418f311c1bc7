"""Annotations of Aperio ImageScope, as MoNuSAC and MoNuSeg are published.

``Annotations > Annotation > Regions > Region > Vertices > Vertex``: an Annotation is a
layer, and its first ``Attribute`` with a name holds that of the class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import Annotated, Source, find_pairs
from custom.io.names import IGNORE, NUCLEUS
from custom.structures.box_masks import BoxMasks
from custom.structures.polygons import fill, fill_with_outline

#: Classes of MoNuSAC 2020 in the four-class layout.
MONUSAC_CLASSES = {
    "Epithelial": "class1",
    "Lymphocyte": "class2",
    "Neutrophil": "class3",
    "Macrophage": "class4",
    "Ambiguous": IGNORE,
}
# ImageScope's types; others are 2 ellipse, 3 arrow and 4 ruler.
_FREEHAND, _RECTANGLE = "0", "1"
# ElementTree needs some ten times as much memory as the text.
_MAX_BYTES = 1 << 27
_NUMBER = re.compile(r"_\d+$")
_REMEDY = "Save the annotations of ImageScope again"


def find_monusac(root: Path, images: Path | None = None) -> Source:
    """Regions of MoNuSAC with their XML, see :func:`find_pairs`."""
    classes = tuple(c for c in MONUSAC_CLASSES if MONUSAC_CLASSES[c] != IGNORE)
    return find_pairs(root, images, ".xml", read_monusac, classes)


def find_monuseg(root: Path, images: Path | None = None) -> Source:
    """Tiles of MoNuSeg with their XML, see :func:`find_pairs`."""
    return find_pairs(root, images, ".xml", read_monuseg, (NUCLEUS,))


class _NoDocumentType(ElementTree.TreeBuilder):
    """Refuses document types before their content is read.

    They are not part of the format; the entities that they declare are how a small
    file becomes a huge one, or reads others.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Refuse a document type."""
        raise InputError(self.path, "it declares a type or entities", _REMEDY)


def _parse(path: Path) -> ElementTree.Element:
    """The ``Annotations`` of a file.

    Raises:
        InputError: The file is missing, truncated, larger than 128 MiB or not
            ImageScope's; it declares a document type.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(path, "larger than 128 MiB", "Divide the annotations")
        parser = ElementTree.XMLParser(target=_NoDocumentType(path))  # noqa: S314
        root = ElementTree.parse(path, parser).getroot()  # noqa: S314
    except ElementTree.ParseError as error:
        raise InputError(path, f"not XML ({error})", _REMEDY) from None
    except OSError as error:
        raise InputError(
            path, f"it cannot be read ({error.strerror})", "Check the name"
        ) from None
    if root.tag != "Annotations":
        raise InputError(
            path, f"it holds <{root.tag[:40]}>, not <Annotations>", _REMEDY
        )
    return root


def _layer(annotation: ElementTree.Element) -> str:
    """The name of a layer's class, '' if the file gives none."""
    named = [*annotation.iterfind("Attributes/Attribute"), annotation]
    return next((n for e in named if (n := e.get("Name", "").strip())), "")


def _vertices(path: Path, region: ElementTree.Element) -> np.ndarray:
    """(V, 2) float64 (x, y) of an outline."""
    elements = region.iterfind("Vertices/Vertex")
    try:
        pairs = [(float(e.attrib["X"]), float(e.attrib["Y"])) for e in elements]
    except (KeyError, ValueError):
        pairs = [(math.nan, math.nan)]
    vertices = np.array(pairs, np.float64).reshape(-1, 2)
    if not np.isfinite(vertices).all():
        raise InputError(path, "a vertex is not two finite numbers", _REMEDY)
    return vertices


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def read_monusac(path: Path, image: Path) -> Annotated:
    """Read a region of MoNuSAC; the name of a layer is the class.

    The pixels are those of the challenge's own code, which fills each outline by
    ``skimage.draw.polygon``, later ones over earlier.

    Raises:
        InputError: The file is not ImageScope's, or no outline covers a pixel of the
            image, or see :mod:`custom.io.image`.
    """
    known = {name.lower(): name for name in MONUSAC_CLASSES}
    annotated = _read(
        path,
        image,
        lambda layer: known.get(layer.lower(), layer),
        fill_with_outline,
    )
    # <slide>_<number of the region>: the slide stands for a patient without barcode.
    annotated.facts["patient"] = _NUMBER.sub("", path.stem)
    return annotated


def read_monuseg(path: Path, image: Path) -> Annotated:
    """Read a tile of MoNuSeg, all layers as nuclei.

    The pixels are those of the challenge's own code, MATLAB's ``poly2mask``: the rule
    of :func:`custom.structures.polygons.fill`, but the centre of the first pixel is
    (1, 1). There, earlier outlines lie over later ones, so they are given in reverse.

    Raises:
        InputError: See :func:`read_monusac`.
    """
    annotated = _read(
        path, image, lambda _: NUCLEUS, lambda ring, size: fill([ring - 0.5], size)
    )
    annotated.masks = annotated.masks[::-1]
    return annotated


def _read(
    path: Path,
    image: Path,
    class_of: Callable[[str], str],
    rule: Callable[[np.ndarray, tuple[int, int]], BoxMasks],
) -> Annotated:
    annotated = Annotated.of_file(path, image)
    root = _parse(path)
    regions = [
        (class_of(_layer(annotation)), region)
        for annotation in root.iterfind("Annotation")
        for region in annotation.iterfind("Regions/Region")
    ]

    def instances() -> Iterator[tuple[str, BoxMasks]]:
        for name, region in regions:
            vertices = _vertices(path, region)
            if region.get("NegativeROA") == "1":
                annotated.dropped["a negative region"] += 1
            elif region.get("Type", _FREEHAND) not in (_FREEHAND, _RECTANGLE):
                annotated.dropped["an ellipse, an arrow or a ruler"] += 1
            else:
                try:
                    yield name, rule(vertices, annotated.size)
                except ValueError as error:
                    annotated.dropped[str(error)] += 1

    annotated.extend(instances())
    if regions and not annotated.classes:
        raise InputError(
            path,
            f"none of its {len(regions)} regions covers a pixel of {image}",
            "Check that image and annotation belong together",
        )
    if microns := _positive(root.get("MicronsPerPixel")):
        annotated.facts["microns_per_pixel"] = microns
    return annotated
