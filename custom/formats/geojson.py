"""QuPath's GeoJSON, in and out.

A FeatureCollection of polygons in pixels of the image; the name of an object's class is
``properties.classification.name``. Masks are traced along the edges of their pixels, so
that reading gives back the same pixels.
See https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source
from custom.formats.patches import Patch, tight
from custom.formats.polygons import fill, trace
from custom.formats.sources import find_pairs
from custom.io.image import image_size, read_image
from custom.io.json_file import read_json, write_json
from custom.io.names import IGNORE, NUCLEUS, files_below

#: QuPath's own class for regions to leave out.
QUPATH_IGNORE = "Ignore*"
_EXPORT_AGAIN = "Export it from QuPath as a FeatureCollection"


def find_geojson(root: Path, images: Path | None = None) -> Source:
    """The ``<image>.geojson`` files of a folder.

    Args:
        root: Holds them.
        images: Folder of the images; None if they are in ``root`` too.

    Raises:
        InputError: There is none, or see :func:`custom.formats.sources.find_pairs`.
    """
    files = files_below(root, (".geojson",))
    if not files:
        raise InputError(root, "no .geojson files in it", "Check the name")
    named = [(path.stem, path) for path in files]
    return Source(root, find_pairs(named, images or root, read_geojson), ())


def read_geojson(path: Path, image: Path) -> Annotated:
    """Read the polygons of one image.

    The pixels are those of :func:`custom.formats.polygons.fill`; the parts of a
    MultiPolygon are one instance. Objects of QuPath's class ``Ignore*`` are
    regions to ignore, objects without a class are nuclei.

    Raises:
        InputError: The file is no GeoJSON, or no polygon covers a pixel of the image.
    """
    found = Annotated(path, image_size(image), partial(read_image, image))
    features = _features(path)
    for feature in features:
        try:
            geometry = feature.get("geometry") or {}
            kind = geometry.get("type")
            if kind not in ("Polygon", "MultiPolygon"):
                found.dropped[f"a geometry {str(kind)[:40]}"] += 1
                continue
            polygons = geometry["coordinates"]
            if kind == "Polygon":
                polygons = [polygons]
            name = _class_of(feature.get("properties") or {})
            polygons = [[_ring(ring) for ring in rings] for rings in polygons]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                path, f"a feature is malformed ({error!r})"[:200], _EXPORT_AGAIN
            ) from None
        try:
            patch = _union([fill(rings, found.size) for rings in polygons if rings])
        except ValueError as error:
            found.dropped[str(error)] += 1
        else:
            found.add(name, patch)
    if features and not found.patches:
        raise InputError(
            path,
            f"none of its {len(features)} objects covers a pixel of {image}",
            "Do image and annotation belong together?",
        )
    return found


def _features(path: Path) -> list[dict]:
    data = read_json(path)
    if isinstance(data, dict):
        data = data.get("features") if "features" in data else [data]
    if not isinstance(data, list) or not all(
        isinstance(f, dict) and f.get("type") == "Feature" for f in data
    ):
        raise InputError(path, "no GeoJSON features", _EXPORT_AGAIN)
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


def _union(patches: Sequence[Patch | None]) -> Patch | None:
    parts = [patch for patch in patches if patch is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    top = min(patch[0] for patch in parts)
    left = min(patch[1] for patch in parts)
    bottom = max(patch[0] + patch[2].shape[0] for patch in parts)
    right = max(patch[1] + patch[2].shape[1] for patch in parts)
    mask = np.zeros((bottom - top, right - left), bool)
    for y, x, part in parts:
        height, width = part.shape
        mask[y - top : y - top + height, x - left : x - left + width] |= part
    return tight(top, left, mask)


class GeoJsonWriter:
    """Writes ``<image>.geojson``, with detections, which QuPath shows by thousands."""

    def write(self, item: Item, found: Annotated, folder: Path) -> dict:
        """Write the file of one image; returns ``written`` for the manifest."""
        features = [
            _feature(name, patch)
            for name, patch in zip(found.classes, found.patches, strict=True)
        ]
        collection = {"type": "FeatureCollection", "features": features}
        write_json(collection, folder / f"{item.name}.geojson")
        return {}

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Nothing is left to do."""


def detection_feature(
    patch: Patch, name: str, color: Sequence[int], measurements: dict[str, float]
) -> dict:
    """A detection with its colour and numbers, as QuPath writes it from 0.4 on.

    See ``QuPathTypeAdapters`` in QuPath's source.

    Args:
        patch: Its pixels.
        name: Of its class.
        color: RGB of the class.
        measurements: Shown in QuPath's table of measurements.
    """
    feature = _feature(name, patch)
    feature["properties"]["classification"]["color"] = [int(c) for c in color]
    feature["properties"]["measurements"] = measurements
    return feature


def _feature(name: str, patch: Patch) -> dict:
    polygons = [[ring.tolist() for ring in rings] for rings in trace(*patch)]
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": "annotation" if name == IGNORE else "detection",
            "classification": {"name": QUPATH_IGNORE if name == IGNORE else name},
        },
    }
