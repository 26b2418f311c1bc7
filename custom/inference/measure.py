"""Measurements of cells, and their summary for an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree
from skimage.color import rgb2hed
from skimage.measure import regionprops

if TYPE_CHECKING:
    import pandas as pd

    from custom.inference.segmentation import Segmentation

#: The channels of skimage.color.rgb2hed.
STAINS = ("hematoxylin", "eosin", "dab")
# Cells whose pixels are read next to each other, for images that are read in parts.
_BLOCK = 512


def measure(
    found: Segmentation, radius: float = 100.0, radius_um: float = 50.0
) -> pd.DataFrame:
    """Measure each cell by its own mask, where it overlaps others too.

    Columns, those with ``um`` are NaN where the size of a pixel is not known:

    * ``image``, ``cell`` (its number from 1 on), ``class``, ``score``;
    * ``x, y``: centroid of the mask, in pixels of the whole image, where the centre
      of the first pixel is at (0.5, 0.5) as in QuPath; ``x_um, y_um``;
    * ``area`` in pixels, ``area_um2``;
    * ``perimeter`` in pixels, ``perimeter_um``: Crofton's formula in four directions
      (``regionprops.perimeter_crofton``), for discs of radius 2 to 20 at random places
      on average off by up to 2 %, ``regionprops.perimeter`` by 19 to 3 %;
    * ``circularity``: 4π area / perimeter², 1 for a disc, at most 1;
    * ``eccentricity``, ``major_axis``, ``minor_axis`` of the ellipse with the same
      second moments, in pixels (``regionprops``);
    * ``hematoxylin, eosin, dab``: mean of ``skimage.color.rgb2hed`` over the mask
      (Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 291 (2001)); ``dab`` is
      what is left over in H&E;
    * ``neighbours``: other cells of any class whose centroids are within ``radius``
      pixels; ``neighbours_um``: within ``radius_um`` micrometres.

    Args:
        found: The cells.
        radius: In pixels.
        radius_um: In micrometres.

    Returns:
        N rows in the order of the cells.
    """
    import pandas as pd

    count = len(found)
    shape = {name: np.full(count, np.nan) for name in _SHAPE}
    stains = np.full((count, len(STAINS)), np.nan)
    for index in _by_place(found):
        top, left, mask = found.masks.patch(index)
        bottom, right = top + mask.shape[0], left + mask.shape[1]
        (cell,) = regionprops(mask.astype(np.uint8))
        y, x = cell.centroid
        values = (
            left + x + 0.5,
            top + y + 0.5,
            cell.area,
            cell.perimeter_crofton,
            cell.eccentricity,
            cell.axis_major_length,
            cell.axis_minor_length,
        )
        for column, value in zip(shape.values(), values, strict=True):
            column[index] = value
        hed = rgb2hed(found.image.read(top, left, bottom, right))
        stains[index] = hed[mask].mean(axis=0)
    mpp = math.nan if found.mpp is None else found.mpp
    centers = np.stack([shape["x"], shape["y"]], axis=1)
    shape["x"] += found.origin[0]
    shape["y"] += found.origin[1]
    names = np.array([*found.class_names, ""], object)
    circularity = 4 * math.pi * shape["area"] / shape["perimeter"] ** 2
    near_um = np.full(count, np.nan)
    if found.mpp is not None:
        near_um = neighbours(centers, radius_um / mpp)
    return pd.DataFrame(
        {
            "image": np.full(count, found.name, object),
            "cell": np.arange(1, count + 1),
            "class": names[found.classes],
            "score": found.scores,
            "x": shape["x"],
            "y": shape["y"],
            "x_um": shape["x"] * mpp,
            "y_um": shape["y"] * mpp,
            "area": shape["area"].astype(np.int64),
            "area_um2": shape["area"] * mpp**2,
            "perimeter": shape["perimeter"],
            "perimeter_um": shape["perimeter"] * mpp,
            "circularity": np.minimum(circularity, 1.0),
            "eccentricity": shape["eccentricity"],
            "major_axis": shape["major_axis"],
            "minor_axis": shape["minor_axis"],
            **dict(zip(STAINS, stains.T, strict=True)),
            "neighbours": neighbours(centers, radius),
            "neighbours_um": near_um,
        }
    )


_SHAPE = (
    "x",
    "y",
    "area",
    "perimeter",
    "eccentricity",
    "major_axis",
    "minor_axis",
)


def _by_place(found: Segmentation) -> np.ndarray:
    """The cells, block by block of the image."""
    corners = found.masks.windows[:, :2] // _BLOCK
    return np.lexsort((corners[:, 1], corners[:, 0]))


def neighbours(centers: np.ndarray, radius: float) -> np.ndarray:
    """(N,) int64, how many others of (N, 2) points are within a radius."""
    if not len(centers):
        return np.zeros(0, np.int64)
    tree = cKDTree(centers)
    return tree.query_ball_point(centers, radius, return_length=True) - 1


def summarize(found: Segmentation) -> dict:
    """Counts and densities of one image.

    Returns:
        ``image, width, height, mpp, area_mm2, cells, cells_per_mm2, cell_area`` (mean,
        in pixels), and for each class ``count_<class>`` and ``per_mm2_<class>``.
        NaN where the size of a pixel is not known, or there is no cell.
    """
    height, width = found.size
    mpp = math.nan if found.mpp is None else found.mpp
    area = height * width * mpp**2 / 1e6
    counts = found.counts()
    mean = float(found.masks.areas.mean()) if len(found) else math.nan
    return {
        "image": found.name,
        "width": width,
        "height": height,
        "mpp": mpp,
        "area_mm2": area,
        "cells": len(found),
        "cells_per_mm2": len(found) / area,
        "cell_area": mean,
        **{f"count_{name}": number for name, number in counts.items()},
        **{f"per_mm2_{name}": number / area for name, number in counts.items()},
    }
