"""QuPath's objects: which of them are cells."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.formats.geojson import read_geojson
from tests import annotation_files


def square(x: float, y: float, side: float) -> dict:
    ring = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(geometry: dict, name: str | None = None, **keys) -> dict:
    properties = {"classification": {"name": name}} if name else {}
    properties |= {k: keys.pop(k) for k in ("objectType", "object_type") if k in keys}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **keys}


ROI = feature(square(0, 0, 24), objectType="annotation")
DETECTION = feature(square(1, 1, 3), "Tumor", objectType="detection")
CELL = feature(
    square(5, 5, 6), "Tumor", objectType="cell", nucleusGeometry=square(7, 7, 2)
)
BARE_CELL = feature(square(12, 5, 4), objectType="cell", nucleusGeometry=None)
TILE = feature(square(0, 0, 10), objectType="tile")
CORE = feature(square(0, 0, 20), objectType="tma_core")
IGNORED = feature(square(20, 0, 5), "Ignore*", objectType="annotation")
DRAWN = feature(square(14, 14, 5), "Immune cells", objectType="annotation")
OTHERS = feature(square(25, 18, 2))  # of a program that knows no types
# QuPath 0.2 had the type in the id, 0.3 as object_type.
OLD = feature(square(0, 20, 1), id="PathCellObject", nucleusGeometry=None)
OLD_ROI = feature(square(0, 0, 24), id="PathAnnotationObject")
OLD_TILE = feature(square(0, 0, 24), object_type="tile", id="b4-a1")


@pytest.fixture
def read(tmp_path):
    annotation_files.geojson(tmp_path)

    def read(*features: dict, annotations: bool = False):
        path = Path(tmp_path, "a.geojson")
        collection = {"type": "FeatureCollection", "features": features}
        path.write_text(json.dumps(collection))
        return read_geojson(path, tmp_path / "a.png", annotations)

    return read


def test_detections_and_nuclei_are_taken_and_the_rest_is_counted(read):
    annotated = read(
        ROI, DETECTION, CELL, BARE_CELL, TILE, CORE, IGNORED, DRAWN, OTHERS
    )
    instances = zip(annotated.classes, annotated.masks.areas.tolist(), strict=True)
    # The nucleus of 2x2 pixels, not the cell of 6x6; no region of 24x24.
    assert list(instances) == [
        ("Tumor", 9),
        ("Tumor", 4),
        ("nucleus", 16),
        ("ignore", 25),
        ("nucleus", 4),
    ]
    assert annotated.dropped == {
        "an annotation (--annotations takes it)": 2,
        "an object of type tile": 1,
        "an object of type tma_core": 1,
    }


def test_annotations_are_taken_on_request(read):
    annotated = read(DETECTION, DRAWN, TILE, annotations=True)
    assert Counter(annotated.classes) == {"Tumor": 1, "Immune cells": 1}
    assert sum(annotated.dropped.values()) == 1
    with pytest.raises(InputError, match=r"1 an annotation .* use --annotations"):
        read(DRAWN)


def test_types_of_older_versions_of_qupath(read):
    annotated = read(OLD, OLD_ROI, OLD_TILE)
    assert annotated.masks.areas.tolist() == [1]
    assert sum(annotated.dropped.values()) == 2
