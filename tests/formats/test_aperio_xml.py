"""ImageScope XML: the published annotations become the published pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from custom.formats.aperio_xml import MONUSAC_CLASSES, read_monusac, read_monuseg
from custom.formats.folders import read_masks
from custom.io.image import read_labels


@pytest.mark.parametrize("name", ["TCGA-21-5784-01Z-00-DX1", "TCGA-21-5786-01Z-00-DX1"])
def test_monuseg_outlines_become_the_published_masks(shared_data, name):
    """XML and PNG of one image, drawn and read by different programs: equal pixels."""
    folder = shared_data / "monuseg_xml"
    annotated = read_monuseg(folder / f"{name}.xml", folder / f"{name}.tif")
    masks = (shared_data / "nuclei2021" / "train" / name / "masks").glob("*.png")
    image = folder / f"{name}.tif"
    expected = read_masks(image, sorted(masks)).masks.paint()
    labels = annotated.masks.paint()
    # Outlines overlap; which one lies on top matters.
    assert annotated.masks.areas.sum() - np.count_nonzero(labels) > 1000
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(annotated.masks) + 1 == expected.max() + 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_monusac_outlines_become_the_released_layout(shared_data, hw3, number):
    source = shared_data / "monusac_original" / f"A9K0_{number}"
    annotated = read_monusac(source.with_suffix(".xml"), source.with_suffix(".svs"))
    folder = hw3 / "train" / f"TCGA-5P-A9K0_{number}"
    np.testing.assert_array_equal(
        annotated.read_image(), tifffile.imread(folder / "image.tif")[..., :3]
    )
    assert annotated.facts["microns_per_pixel"] == 0.19448
    for name in set(annotated.classes):
        expected = read_labels(folder / f"{MONUSAC_CLASSES[name]}.tif")
        labels = annotated.of_classes(name).paint()
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == len(annotated.of_classes(name)) + 1
        assert len(np.unique(expected)) == len(np.unique(labels)) == pairs.shape[1]
