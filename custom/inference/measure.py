"""Measurements of cells, and their summary for an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial import cKDTree
from skimage.color import rgb2hed
from skimage.measure import perimeter_crofton

from custom.structures.box_masks import BoxMasks

if TYPE_CHECKING:
    import pandas as pd

    from custom.inference.segmentation import Segmentation

#: The channels of skimage.color.rgb2hed.
STAINS = ("hematoxylin", "eosin", "dab")
# Cells of a square of this side are measured together; their pixels are read once.
_BLOCK = 512


def measure(
    segmentation: Segmentation, radius: float = 100.0, radius_um: float = 50.0
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
        segmentation: The cells.
        radius: In pixels.
        radius_um: In micrometres.

    Returns:
        N rows in the order of the cells.
    """
    import pandas as pd

    count, mpp = len(segmentation), segmentation.mpp or math.nan
    shape = _shapes(segmentation.masks)
    centers = np.stack([shape["x"], shape["y"]], axis=1)
    x, y = shape["x"] + segmentation.origin[0], shape["y"] + segmentation.origin[1]
    names = np.array([*segmentation.class_names, ""], object)
    area, perimeter = shape["area"], shape["perimeter"]
    known = segmentation.mpp is not None
    columns = {
        "image": np.full(count, segmentation.name, object),
        "cell": np.arange(1, count + 1),
        "class": names[segmentation.classes],
        "score": segmentation.scores,
        "x": x,
        "y": y,
        "x_um": x * mpp,
        "y_um": y * mpp,
        "area": area.astype(np.int64),
        "area_um2": area * mpp**2,
        "perimeter": perimeter,
        "perimeter_um": perimeter * mpp,
        "circularity": np.minimum(4 * math.pi * area / perimeter**2, 1.0),
        **{k: shape[k] for k in ("eccentricity", "major_axis", "minor_axis")},
        **dict(zip(STAINS, _stains(segmentation).T, strict=True)),
        "neighbours": neighbours(centers, radius),
        "neighbours_um": neighbours(centers, radius_um / mpp) if known else math.nan,
    }
    return pd.DataFrame(columns)


def _shapes(masks: BoxMasks) -> dict[str, np.ndarray]:
    """Shape properties of many masks, as skimage's slower ``regionprops`` of each.

    Returns:
        Columns (N,) float64; ``x`` and ``y`` are those of the centroid.
    """
    rows = []
    for top, left, mask in masks.patches():
        m = cv2.moments(mask.view(np.uint8), binaryImage=True)
        x, y = left + m["m10"] / m["m00"] + 0.5, top + m["m01"] / m["m00"] + 0.5
        central = m["mu20"], m["mu11"], m["mu02"]
        rows.append((x, y, m["m00"], perimeter_crofton(mask), *central))
    columns = np.array(rows).reshape(-1, 7).T
    area = columns[2]
    xx, xy, yy = columns[4:] / area
    # The eigenvalues of the covariance.
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = middle + half, (middle - half).clip(min=0)
    ratio = np.divide(minor, major, out=np.ones_like(minor), where=major > 0)
    return {
        "x": columns[0],
        "y": columns[1],
        "area": area,
        "perimeter": columns[3],
        "eccentricity": np.sqrt(1 - ratio),
        "major_axis": 4 * np.sqrt(major),
        "minor_axis": 4 * np.sqrt(minor),
    }


def _stains(segmentation: Segmentation) -> np.ndarray:
    """(N, 3) float64, the mean of each stain over each mask, block by block."""
    means = np.full((len(segmentation), len(STAINS)), np.nan)
    windows = segmentation.masks.windows
    corners = windows[:, :2] // _BLOCK
    order = np.lexsort((corners[:, 1], corners[:, 0]))
    cuts = np.flatnonzero(np.diff(corners[order], axis=0).any(axis=1)) + 1
    for block in np.split(order, cuts) if len(order) else ():
        y1, x1 = windows[block, :2].min(axis=0).tolist()
        y2, x2 = windows[block, 2:].max(axis=0).tolist()
        image = segmentation.image.read(y1, x1, y2, x2)
        parts = []
        for top, left, mask in segmentation.masks[block].patches():
            top, left = top - y1, left - x1
            view = image[top : top + mask.shape[0], left : left + mask.shape[1]]
            parts.append(view[mask])
        stains = rgb2hed(np.concatenate(parts)[None])[0]
        counts = np.array([len(part) for part in parts])
        first = np.cumsum(counts) - counts
        means[block] = np.add.reduceat(stains, first, axis=0) / counts[:, None]
    return means


def neighbours(centers: np.ndarray, radius: float) -> np.ndarray:
    """(N,) int64, how many others of (N, 2) points are within a radius."""
    if not len(centers):
        return np.zeros(0, np.int64)
    tree = cKDTree(centers)
    return tree.query_ball_point(centers, radius, return_length=True) - 1


def summarize(segmentation: Segmentation) -> dict:
    """Counts and densities of one image.

    Returns:
        ``image, width, height, mpp, area_mm2, cells, cells_per_mm2, cell_area`` (mean,
        in pixels), for each class ``count_<class>`` and ``per_mm2_<class>``,
        ``channel_order`` as the file stores it, and ``warnings``.
        NaN where the size of a pixel is unknown or the image lacks cells.
    """
    height, width = segmentation.size
    mpp = math.nan if segmentation.mpp is None else segmentation.mpp
    area = height * width * mpp**2 / 1e6
    counts = segmentation.counts()
    mean = float(segmentation.masks.areas.mean()) if len(segmentation) else math.nan
    return {
        "image": segmentation.name,
        "width": width,
        "height": height,
        "mpp": mpp,
        "area_mm2": area,
        "cells": len(segmentation),
        "cells_per_mm2": len(segmentation) / area,
        "cell_area": mean,
        **{f"count_{name}": number for name, number in counts.items()},
        **{f"per_mm2_{name}": number / area for name, number in counts.items()},
        "channel_order": segmentation.channel_order,
        "warnings": "; ".join(segmentation.notes),
    }
