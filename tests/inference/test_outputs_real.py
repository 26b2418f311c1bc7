"""Outputs of real images, opened again by other libraries, agree with each other.

The network here takes dark parts for cells: what it finds is as crooked, touching and
nested as real cells are.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
import tifffile
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from custom.inference import Segmenter
from custom.io.image import read_image
from custom.workbench.predict.outputs import write_files
from tests.drawn_network import find

pandas = pytest.importorskip("pandas")


class DarkNetwork:
    """Takes the dark parts of 40 pixels or more for cells of four classes."""

    classes = ("class1", "class2", "class3", "class4")
    palette = ((0, 158, 115), (240, 228, 66), (86, 180, 233), (230, 159, 0))
    info, tile, max_value = {"digest": "dark"}, None, 65_535
    mpp, channel_order = None, None

    def __call__(self, tiles):
        for tile in tiles:
            gray = ndimage.gaussian_filter(tile.mean(axis=2), 2)
            parts, _ = ndimage.label(gray < np.quantile(gray, 0.15))
            areas = np.bincount(parts.ravel())
            large = (areas[parts] >= 40) & (parts > 0)
            boxes, _, labels, masks = find(
                np.dstack([gray, gray, np.where(large, parts % 200 + 1, 255)])
            )
            grown = boxes + np.array([-6, -6, 6, 6], np.float32)  # they overlap
            masks.boxes = masks.boxes + masks.boxes.new_tensor([-6, -6, 6, 6])
            scores = np.random.default_rng(0).uniform(0.3, 1, len(boxes))
            yield grown, scores, (labels * 2 + np.arange(len(labels)) % 2), masks


RELEASED = "hw3/test_release/{}.tif"
IMAGES = {
    "svs": ("monusac_original/A9K0_3.svs", None),
    "svs-region": ("monusac_original/A9K0_1.svs", (300, 200, 600, 300)),
    "hw3": (RELEASED.format("e5b609b7-fba5-4a45-8a10-57ebf8110ef7"), (0, 0, 600, 449)),
    "hw3-small": (RELEASED.format("4ec7ceb0-3995-49ee-81ed-acc5e48cf4bb"), None),
    "2021": ("nuclei2021/test/TCGA-50-5931-01Z-00-DX1.png", (9, 99, 480, 450)),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_files_agree_in_count_and_area(shared_data, tmp_path, kind):
    name, region = IMAGES[kind]
    path = shared_data / name
    cells = Segmenter(DarkNetwork(), tile=512, overlap=128)(path, region=region)
    assert len(cells) > 3
    kinds = ("overlay", "labels", "geojson", "coco", "csv")
    files = {k: write_files(k, cells, tmp_path / "image") for k in kinds}

    frame = pandas.read_csv(files["csv"][0])
    coco = COCO(files["coco"][0])
    annotations = coco.loadAnns(coco.getAnnIds())
    features = json.loads(files["geojson"][0].read_text())["features"]
    polygons = [shapely.geometry.shape(f["geometry"]) for f in features]
    assert len(frame) == len(annotations) == len(features) == cells.summary()["cells"]

    masks = [coco.annToMask(a).astype(bool) for a in annotations]
    areas = [mask.sum() for mask in masks]
    assert [p.area for p in polygons] == areas == frame.area.tolist()
    assert all(polygon.is_valid for polygon in polygons)
    centers = np.array([p.centroid.coords[0] for p in polygons])
    np.testing.assert_allclose(frame[["x", "y"]], centers, atol=1e-4)
    x, y = cells.origin
    bounds = np.array([p.bounds for p in polygons]) - [x, y, x, y]
    tight = np.array([coco_mask.toBbox(a["segmentation"]) for a in annotations])
    tight[:, 2:] += tight[:, :2]
    np.testing.assert_array_equal(bounds, tight)

    names = [f["properties"]["classification"]["name"] for f in features]
    assert names == frame["class"].tolist()
    assert names == [coco.cats[a["category_id"]]["name"] for a in annotations]
    labels, classes, *single = map(tifffile.imread, files["labels"])
    np.testing.assert_array_equal(labels > 0, np.any(masks, axis=0))
    categories = np.array([0, *(a["category_id"] for a in annotations)])
    np.testing.assert_array_equal(classes, categories[labels])
    for number, image in enumerate(single, 1):
        of_class = [
            m for m, c in zip(masks, categories[1:], strict=True) if c == number
        ]
        expected = np.any(of_class, axis=0) if of_class else np.zeros(cells.size, bool)
        np.testing.assert_array_equal(image > 0, expected)
    overlay = read_image(files["overlay"][0])
    assert overlay.shape[0] >= cells.size[0] and overlay.shape[1] == cells.size[1]
    if "svs" in kind:
        assert cells.mpp == pytest.approx(0.19448)
        np.testing.assert_allclose(frame.area_um2, frame.area * cells.mpp**2, rtol=1e-4)
