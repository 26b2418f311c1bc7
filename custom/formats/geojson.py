"""QuPath's GeoJSON, in and out.

A FeatureCollection of polygons in pixels of the image; the name of an object's class is
``properties.classification.name``. Masks are traced along the edges of their pixels, so
that reading gives back the same pixels.
See https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source, Writer, find_pairs
from custom.io.json_file import read_json, write_json
from custom.io.names import IGNORE, NUCLEUS
from custom.structures.box_masks import BoxMasks
from custom.structures.polygons import fill, geometry, union

#: QuPath's own class for regions to leave out.
QUPATH_IGNORE = "Ignore*"
# The objects that are cells, by properties.objectType (object_type in QuPath 0.3, the
# feature's id in 0.2; QuPathTypeAdapters in its source). Polygons of other programs
# have none of these.
_CELLS = ("detection", "cell", "PathDetectionObject", "PathCellObject", None)
_ANNOTATIONS = ("annotation", "PathAnnotationObject")
_EXPORT_AGAIN = "Export it from QuPath as a FeatureCollection"


def find_geojson(
    root: Path, images: Path | None = None, annotations: bool = False
) -> Source:
    """``<image>.geojson`` files, see :func:`find_pairs` and :func:`read_geojson`."""
    read = partial(read_geojson, annotations=annotations)
    return find_pairs(root, images, ".geojson", read)


def read_geojson(path: Path, image: Path, annotations: bool = False) -> Annotated:
    """Read the cells of one image.

    Of QuPath's objects, detections and cells are taken, a cell with the outline of its
    nucleus if it has one. Tiles, TMA cores and the like are counted as left out, and so
    are annotations, which mostly outline the region that was worked on. Objects of
    QuPath's class ``Ignore*`` are regions to ignore, those without a class nuclei.

    The pixels are those of :func:`custom.structures.polygons.fill`; the parts of a
    MultiPolygon are one instance. With ``annotations``, these are taken as well: cells
    that were drawn by hand.

    Raises:
        InputError: The file is not GeoJSON, or no object covers a pixel of the image.
    """
    annotated = Annotated.of_file(path, image)
    features = _features(path)
    annotated.extend(_instances(path, features, annotated, annotations))
    if features and not annotated.classes:
        left_out = ", ".join(f"{n} {why}" for why, n in annotated.dropped.items())
        raise InputError(
            path,
            f"none of its {len(features)} objects is a cell in {image} ({left_out})",
            "If the cells were drawn as annotations, use --annotations; otherwise check"
            " that image and annotation belong together",
        )
    return annotated


def _instances(
    path: Path, features: Sequence[dict], annotated: Annotated, annotations: bool
) -> Iterator[tuple[str, BoxMasks]]:
    """The class and the mask of each feature that is taken; the others are counted."""
    size, dropped = annotated.size, annotated.dropped
    for feature in features:
        try:
            properties = feature.get("properties") or {}
            name = _class_of(properties)
            kind = _kind(feature, properties)
            shape = feature.get("nucleusGeometry") or feature.get("geometry") or {}
            outline = str(shape.get("type"))
            if kind in _ANNOTATIONS and not annotations and name != IGNORE:
                dropped["an annotation (--annotations takes it)"] += 1
                continue
            if kind not in (*_CELLS, *_ANNOTATIONS):
                dropped[f"an object of type {str(kind)[:40]}"] += 1
                continue
            if outline not in ("Polygon", "MultiPolygon"):
                dropped[f"a geometry {outline[:40]}"] += 1
                continue
            polygons = shape["coordinates"]
            polygons = [polygons] if outline == "Polygon" else polygons
            polygons = [[_ring(ring) for ring in rings] for rings in polygons]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                path, f"a feature is malformed ({error!r})"[:200], _EXPORT_AGAIN
            ) from None
        try:
            yield name, union([fill(rings, size) for rings in polygons if rings], size)
        except ValueError as error:
            dropped[str(error)] += 1


def _kind(feature: dict, properties: dict) -> str | None:
    """QuPath's type of an object; None if QuPath did not write it."""
    kind = properties.get("objectType", properties.get("object_type"))
    number = feature.get("id")
    if kind is None and isinstance(number, str) and number.endswith("Object"):
        return number
    return kind if kind is None else str(kind)


def _features(path: Path) -> list[dict]:
    data = read_json(path)
    if isinstance(data, dict):
        data = data.get("features") if "features" in data else [data]
    if not isinstance(data, list) or not all(
        isinstance(f, dict) and f.get("type") == "Feature" for f in data
    ):
        raise InputError(path, "it lacks GeoJSON features", _EXPORT_AGAIN)
    return data


def _ring(vertices: list) -> np.ndarray:
    ring = np.array([vertex[:2] for vertex in vertices])
    if ring.shape != (len(vertices), 2) or ring.dtype.kind not in "iuf":
        raise ValueError("coordinates are not pairs of numbers")
    return ring.astype(np.float64)


def _class_of(properties: dict) -> str:
    classification = properties.get("classification") or {}
    if isinstance(classification, str):
        name = classification
    else:  # a class derived from others has a list of names
        name = classification.get("name") or ": ".join(classification.get("names", []))
    if not isinstance(name, str):
        raise TypeError(f"a class named {name!r}")
    return IGNORE if name == QUPATH_IGNORE else name or NUCLEUS


class GeoJsonWriter(Writer):
    """Writes ``<image>.geojson``, with detections, which QuPath shows by thousands."""

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write the file of one image."""
        features = [
            {
                "type": "Feature",
                "geometry": geometry(*patch),
                "properties": {
                    "objectType": "annotation" if name == IGNORE else "detection",
                    "classification": {
                        "name": QUPATH_IGNORE if name == IGNORE else name
                    },
                },
            }
            for name, patch in zip(
                annotated.classes, annotated.masks.patches(), strict=True
            )
        ]
        collection = {"type": "FeatureCollection", "features": features}
        write_json(collection, folder / f"{item.name}.geojson")
        return {}
