"""Stain clusters find the slides of made images, and say how well on real ones."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.special import comb

from custom.datasets.splits import make_split
from custom.datasets.stain import (
    cluster_names,
    patch_features,
    silhouette,
    stain_clusters,
)
from custom.errors import InputError

many = settings(max_examples=40, deadline=None)


def adjusted_rand(first, second) -> float:
    """Hubert and Arabie, J. Classification 2, 193 (1985), by its contingency table."""
    pairs = Counter(zip(first, second, strict=True)).values()
    together = sum(comb(n, 2) for n in pairs)
    rows = sum(comb(n, 2) for n in Counter(first).values())
    columns = sum(comb(n, 2) for n in Counter(second).values())
    expected = rows * columns / comb(len(first), 2)
    return (together - expected) / ((rows + columns) / 2 - expected)


def draw_region(rng, nucleus, tissue, blur) -> np.ndarray:
    """Discs of one colour on another, as many as chance wants."""
    height, width = rng.integers(90, 240, 2)
    share = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(30, 90)):
        center = tuple(int(v) for v in rng.integers(0, (width, height)))
        cv2.circle(share, center, int(rng.integers(5, 14)), 1.0, -1)
    share = cv2.GaussianBlur(share, (0, 0), blur)[..., None]
    thickness = np.linspace(*rng.uniform(0.7, 1.3, 2), width)[:, None]
    density = share * nucleus + (1 - share) * np.array(tissue) * thickness
    density = density + rng.normal(0, 0.01, density.shape)
    return np.clip(255 * 10**-density, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def regions() -> tuple[list[np.ndarray], list[int]]:
    """Five regions of each of six slides."""
    slides = [
        ((0.7, 0.8, 0.3), (0.1, 0.4, 0.2), 1.0),
        ((0.5, 0.9, 0.4), (0.2, 0.4, 0.1), 1.0),
        ((0.9, 0.8, 0.5), (0.1, 0.3, 0.1), 1.8),
        ((0.6, 0.6, 0.2), (0.1, 0.5, 0.3), 0.6),
        ((0.3, 0.8, 0.7), (0.2, 0.4, 0.1), 1.0),
        ((0.4, 0.6, 0.6), (0.3, 0.3, 0.1), 1.4),
    ]
    rng = np.random.default_rng(0)
    drawn = [(draw_region(rng, *slide), i) for i, slide in enumerate(slides)
             for _ in range(5)]  # fmt: skip
    return [image for image, _ in drawn], [slide for _, slide in drawn]


def test_clusters_are_the_slides_that_were_drawn(regions):
    images, slides = regions
    clusters = cluster_names([patch_features(image) for image in images])
    assert adjusted_rand(clusters, slides) == 1
    assert clusters[0] == "stain01" and len(set(clusters)) == 6


@many
@given(st.integers(0, 999), st.integers(3, 25), st.integers(2, 8))
def test_silhouette_equals_its_definition(seed, count, groups):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 2))
    labels = fcluster(linkage(points, "ward"), min(groups, count - 1), "maxclust")
    distances = squareform(pdist(points))
    values = []
    for i, label in enumerate(labels):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            values.append(0.0)
            continue
        a = distances[i, members].sum() / (len(members) - 1)
        other_labels = set(labels.tolist()) - {label}
        b = min(distances[i, labels == other].mean() for other in other_labels)
        values.append((b - a) / max(a, b))
    assert silhouette(distances, labels) == pytest.approx(np.mean(values))


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (33, 86), (200, 7), (700, 500)])
def test_images_of_any_size_have_finite_features(shape):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    features = patch_features(image)
    assert features.shape[1] == 18 and 1 <= len(features) <= 16
    assert np.isfinite(features).all()
    assert np.isfinite(patch_features(np.full_like(image, 255))).all()


# --- the split ---


def test_split_keeps_clusters_together_whatever_the_seed(tiny_root):
    folder = tiny_root / "train"
    images = {path.name: path / "image.tif" for path in folder.iterdir()}
    cluster_of = stain_clusters(images)
    for seed in range(5):
        split = make_split(
            f"stain_50-50_seed{seed}", dict.fromkeys(images, ()), folder,
            image_of=images,
        )  # fmt: skip
        train, val = (
            {cluster_of[n] for n in part} for part in (split.train, split.val)
        )
        assert not train & val
        assert sorted(split.train + split.val) == sorted(images)


def test_changed_image_is_looked_at_again(tiny_copy):
    names = sorted(path.name for path in (tiny_copy / "train").iterdir())
    images = {n: tiny_copy / "train" / n / "image.tif" for n in names}
    before = stain_clusters(images)
    images[names[0]].write_bytes(b"no image")
    assert set(before) == set(names)
    with pytest.raises(InputError, match="not a readable TIFF"):
        stain_clusters(images)


# --- real regions ---


@pytest.fixture(scope="module")
def real_clusters(hw3) -> dict[str, str]:
    return stain_clusters({p.name: p / "image.tif" for p in (hw3 / "train").iterdir()})


def test_regions_of_one_patient_fall_together(real_clusters):
    patients = [name[:12] for name in real_clusters]
    clusters = list(real_clusters.values())
    assert 9 <= len(set(clusters)) <= 13  # nine patients
    assert adjusted_rand(clusters, patients) > 0.45
    rng = np.random.default_rng(0)
    chance = [adjusted_rand(rng.permutation(clusters), patients) for _ in range(200)]
    assert max(chance) < 0.2
