"""Group images that look like one slide, where patients are unknown.

Regions of one slide share its dyes and the scanner's colours and sharpness, but not
what they show, and what they show differs more. So an image is described by patches,
and differences are measured in units of what the patches of one image differ by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from tqdm import tqdm

from custom.io.colours import optical_density
from custom.io.image import read_image

_SIDE = 128  # of a patch in pixels; a third of the image if it is smaller
_PER_AXIS = 4  # at most 16 patches of an image
# Fewer clusters cannot hold out a fifth of them.
_FEWEST = 5
_SHRINKAGE = 0.05


def stain_clusters(paths: Mapping[str, str | Path]) -> dict[str, str]:
    """Group images that look like one slide.

    Ward's hierarchy on :func:`signatures`. The number of clusters is the one, from five
    to half the images, with the largest mean silhouette (Rousseeuw, J. Comput. Appl.
    Math. 20, 53, 1987): fewer than five cannot hold out a fifth of the data.

    Args:
        paths: File of each image.

    Returns:
        For each image the name of its cluster, ``stain01``, ``stain02``, ...

    Raises:
        InputError: See :func:`custom.io.image.read_image`.
    """
    names = sorted(paths)
    files = tuple((str(paths[name]), _changed(paths[name])) for name in names)
    return dict(zip(names, _clusters_of_files(files), strict=True))


def _changed(path: str | Path) -> int:
    """Time of change; reading says what is wrong with a file that is not there."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


@lru_cache(maxsize=4)  # the training and the validation set ask for the same
def _clusters_of_files(files: tuple[tuple[str, int], ...]) -> list[str]:
    images = (
        read_image(path)
        for path, _ in tqdm(files, desc="stains", unit="image", delay=1, leave=False)
    )
    return cluster_names([patch_features(image) for image in images])


def cluster_names(patches: Sequence[np.ndarray]) -> list[str]:
    """``stain01``, ... for the :func:`patch_features` of each image, in their order."""
    labels = cluster(signatures(patches)).tolist()
    order = {label: i for i, label in enumerate(dict.fromkeys(labels), 1)}
    return [f"stain{order[label]:02}" for label in labels]


def patch_features(image: np.ndarray) -> np.ndarray:
    """Colour and sharpness of patches that are spread over an image.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (P, 18) float32: of the darkest 15 % of a patch (mostly nuclei), of the lightest
        15 % and of what is between, the mean absorbance of each channel (9) and the
        shares of red and blue in it (6); then the logarithm of the mean difference
        between neighbours over that at twice the distance, in Y, Cr and Cb (3).
    """
    short = [max(0, 8 - side) for side in image.shape[:2]]
    if any(short):
        image = cv2.copyMakeBorder(image, 0, short[0], 0, short[1], cv2.BORDER_REFLECT)
    side = min(_SIDE, max(8, max(image.shape[:2]) // 3))
    starts = [
        np.linspace(0, max(0, length - side), min(_PER_AXIS, max(1, length // side)))
        for length in image.shape[:2]
    ]
    return np.array(
        [
            _features(np.ascontiguousarray(image[y : y + side, x : x + side]))
            for y in starts[0].astype(int)
            for x in starts[1].astype(int)
        ]
    )


def _features(patch: np.ndarray) -> np.ndarray:
    density = optical_density(patch).reshape(-1, 3)
    darkness = density.sum(1)
    share = density[:, [0, 2]] / (darkness[:, None] + 0.1)
    light, dark = np.percentile(darkness, [15, 85])
    parts = [darkness >= dark, (darkness > light) & (darkness < dark)]
    parts.append(darkness <= light)
    features = [
        values[part].mean(0) if part.any() else values.mean(0)
        for values in (density, share)
        for part in parts
    ]
    planes = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    near = np.abs(planes[:, 1:] - planes[:, :-1]).mean((0, 1))
    far = np.abs(planes[:, 2:] - planes[:, :-2]).mean((0, 1))
    return np.concatenate([*features, np.log((near + 0.01) / (far + 0.01))])


def signatures(patches: Sequence[np.ndarray]) -> np.ndarray:
    """Feature vector of each image, whitened by the variation within images.

    The mean of an image's (P, F) patches, whitened with the pooled covariance of
    patches within images: linear discriminant analysis with the image as the class. The
    covariance is shrunk by 5 % towards a diagonal one.

    Returns:
        (N, F) float64.
    """
    means = np.array([points.mean(0) for points in patches])
    residuals = np.concatenate([points - points.mean(0) for points in patches])
    scale = residuals.std(0)
    scale[scale == 0] = 1
    residuals, means = residuals / scale, (means - means.mean(0)) / scale
    within = residuals.T @ residuals / max(1, len(residuals) - len(patches))
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.eye(len(within))
    return means @ np.linalg.cholesky(np.linalg.inv(within))


def cluster(points: np.ndarray) -> np.ndarray:
    """Group points, see :func:`stain_clusters`; (N,) labels from 1 on.

    Of less than ten images half as many clusters are made.
    """
    most = max(1, len(points) // 2)
    if len(points) < 2:
        return np.ones(len(points), int)
    tree = linkage(points, "ward")
    groups = [
        fcluster(tree, count, "maxclust")
        for count in range(min(_FEWEST, most), most + 1)
    ]
    if len(groups) == 1:
        return groups[0]
    distances = squareform(pdist(points))
    return max(groups, key=lambda labels: silhouette(distances, labels))


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of two or more clusters; a point alone in its cluster counts 0.

    Args:
        distances: (N, N).
        labels: (N,).
    """
    _, place = np.unique(labels, return_inverse=True)
    member = np.eye(place.max() + 1)[place]
    sizes = member.sum(0)
    sums = distances @ member
    index = np.arange(len(place))
    within = sums[index, place] / np.maximum(sizes[place] - 1, 1)
    means = sums / sizes
    means[index, place] = np.inf
    other = means.min(1)
    widest = np.maximum(within, other)
    alone = (sizes[place] == 1) | (widest == 0)
    values = np.where(alone, 0, (other - within) / np.where(alone, 1, widest))
    return float(values.mean())
