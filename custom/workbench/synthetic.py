"""Synthetic H&E-like tiles with four cell classes, in the released layout.

The real images must not be redistributed, so the demo, the smoke tests and the
benchmarks draw their own. The pixels are made in optical density: two stain
concentration maps (haematoxylin, eosin) are painted and mixed by the Beer-Lambert
law, which gives the additive darkening of real slides. Each cell is drawn through
the mask that is its ground truth, so image and labels cannot disagree.
"""

from __future__ import annotations

import functools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.random import Generator
from scipy import ndimage
from skimage.transform import resize

from custom.errors import InputError

CLASSES = ("epithelial", "lymphocyte", "neutrophil", "macrophage")

#: Share of each class among the cells. The rare classes are rare, but three times
#: as frequent as in the release, or a small data set would hold too few to learn.
_SHARES = (0.48, 0.42, 0.06, 0.04)
#: Which classes the n-th image shows. Its length shares no factor with the 5 of
#: `_shape`, so that every combination of classes meets every kind of shape.
_CLASS_SETS = ((1, 2, 3, 4), (1, 2), (1, 2, 3), (1, 2, 4), (1, 3), (2, 4), (2, 3, 4))
#: Optical densities per unit of stain, rows haematoxylin and eosin, columns R, G, B.
#: Two published pairs that span the hues of real slides: Ruifrok & Johnston (2001)
#: bluish, and the reference of Macenko et al. (2009) reddish.
_STAINS = np.array(
    [
        [[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]],
        [[0.563, 0.720, 0.406], [0.216, 0.801, 0.558]],
    ]
)
_MIN_AREA = 30  # pixels; less is a sliver at the image border
_MAX_CUT = 0.12  # a cell that would lose more to its neighbours goes elsewhere
_TRIES = 24

#: A drawn cell: its mask and its two stain concentrations, all (h, w).
_Cell = tuple[np.ndarray, np.ndarray, np.ndarray]


def _noise(rng: Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Draw smooth noise (H, W) of about unit variance with blobs of `scale` pixels."""
    coarse = rng.normal(size=[int(np.ceil(n / scale)) + 2 for n in shape])
    return resize(coarse, shape, order=3, anti_aliasing=False, clip=False)


def _step(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x)


def _grid(rng: Generator, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x (S, S) of a square patch, its origin off the pixel raster."""
    side = np.arange(-np.ceil(half), np.ceil(half) + 1)
    dy, dx = rng.uniform(-0.5, 0.5, 2)
    return np.meshgrid(side - dy, side - dx, indexing="ij")


def _relative_radius(
    rng: Generator,
    yy: np.ndarray,
    xx: np.ndarray,
    radius: float,
    aspect: float,
    wobble: float,
) -> np.ndarray:
    """Distance to the origin in units of the outline: below 1 is inside.

    The outline is an ellipse of area pi radius^2 whose radius is perturbed by the
    Fourier terms 2 to 5; higher ones would make it jagged.
    """
    turn = rng.uniform(0, np.pi)
    u = (xx * np.cos(turn) + yy * np.sin(turn)) / (radius * np.sqrt(aspect))
    v = (yy * np.cos(turn) - xx * np.sin(turn)) / (radius / np.sqrt(aspect))
    phi = np.arctan2(v, u)
    outline = np.ones_like(phi)
    for order in range(2, 6):
        a, b = rng.normal(0, wobble / order, 2)
        outline += a * np.cos(order * phi) + b * np.sin(order * phi)
    return np.hypot(u, v) / np.maximum(outline, 0.5)


def _epithelial(rng: Generator) -> _Cell:
    """Medium to large pale oval nucleus, darker at the membrane, with nucleoli."""
    radius = rng.uniform(10.5, 16.5)
    yy, xx = _grid(rng, 1.9 * radius)
    d = _relative_radius(rng, yy, xx, radius, rng.uniform(1.1, 1.7), 0.08)
    haem = rng.uniform(0.75, 1.2) * (1 + 0.22 * _noise(rng, d.shape, 3.0))
    haem += 0.4 * np.exp(-(((d - 0.93) / 0.1) ** 2))
    for _ in range(rng.integers(0, 3)):
        cy, cx = rng.normal(0, 0.25 * radius, 2)
        haem += 0.8 * np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / 3.0)
    return d < 1, haem, np.full_like(d, 0.35)


def _lymphocyte(rng: Generator) -> _Cell:
    """Small, round, very dark nucleus with coarse chromatin."""
    radius = rng.uniform(7.0, 10.0)
    yy, xx = _grid(rng, 1.7 * radius)
    d = _relative_radius(rng, yy, xx, radius, rng.uniform(1.0, 1.25), 0.05)
    haem = rng.uniform(1.5, 2.2) * (1 + 0.16 * _noise(rng, d.shape, 3.5))
    return d < 1, haem, np.full_like(d, 0.45)


def _neutrophil(rng: Generator) -> _Cell:
    """Two to four dark lobes on an arc, joined by bridges, in thin pale cytoplasm."""
    radius = rng.uniform(10.0, 13.0)
    yy, xx = _grid(rng, 1.7 * radius)
    d = _relative_radius(rng, yy, xx, radius, rng.uniform(1.0, 1.2), 0.07)
    lobes = rng.integers(2, 5)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(lobes) * rng.uniform(1.4, 1.8)
    size = radius * (0.46 - 0.04 * lobes)
    # A sum of bumps has one level set around all lobes: it makes the bridges.
    bumps = np.zeros_like(d)
    for angle in angles:
        cy, cx = 0.5 * radius * np.sin(angle), 0.5 * radius * np.cos(angle)
        bumps += np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (1.45 * size**2))
    nucleus = _step(6 * (bumps - 0.5))
    dark = rng.uniform(1.5, 2.1) * (1 + 0.12 * _noise(rng, d.shape, 3.0))
    eosin = rng.uniform(0.3, 0.5) + 0.1 * _noise(rng, d.shape, 2.0)
    return d < 1, 0.15 + nucleus * dark, eosin


def _macrophage(rng: Generator) -> _Cell:
    """Large pale foamy cell, irregular outline, small nucleus off its centre."""
    radius = rng.uniform(18.0, 27.0)
    yy, xx = _grid(rng, 2.2 * radius)
    d = _relative_radius(rng, yy, xx, radius, rng.uniform(1.05, 1.5), 0.22)
    rim = np.exp(-(((d - 0.96) / 0.06) ** 2))
    foam = np.abs(_noise(rng, d.shape, 4.5))  # zero crossings: walls of vacuoles
    haem = 0.22 - 0.08 * foam + 0.16 * rim
    eosin = rng.uniform(0.3, 0.42) - 0.12 * foam + 0.15 * rim
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(6.0, 8.5)
    shift = 0.35 * radius
    yy, xx = yy - shift * np.sin(angle), xx - shift * np.cos(angle)
    n = _relative_radius(rng, yy, xx, size, rng.uniform(1.1, 1.6), 0.08)
    dark = rng.uniform(0.9, 1.4) * (1 + 0.2 * _noise(rng, d.shape, 3.0))
    return d < 1, haem + _step(5 * (1 - n)) * dark, eosin


def _spindle(rng: Generator) -> _Cell:
    """Thin fibroblast nucleus. Drawn, but not annotated, as in the real data."""
    radius = rng.uniform(5.5, 7.5)
    yy, xx = _grid(rng, 3.0 * radius)
    d = _relative_radius(rng, yy, xx, radius, rng.uniform(4.0, 6.0), 0.05)
    haem = rng.uniform(0.6, 1.0) * (1 + 0.2 * _noise(rng, d.shape, 3.0))
    return d < 1, haem, np.full_like(d, 0.5)


_DRAW = {0: _spindle, 1: _epithelial, 2: _lymphocyte, 3: _neutrophil, 4: _macrophage}


def _background(
    rng: Generator, shape: tuple[int, int], glands: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw stroma, bare glass and glands, (G, 3): centre y, x and radius of the ring.

    Returns:
        Haematoxylin, eosin and the share of glass in each pixel, all (H, W).
    """
    yy, xx = np.indices(shape, dtype=float)
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(1.4, 2.2)
    fibres = (yy * np.cos(turn) + xx * np.sin(turn)) / pitch
    fibres = np.sin(fibres + 3 * _noise(rng, shape, 45)) * _step(_noise(rng, shape, 14))
    eosin = 0.62 + 0.12 * _noise(rng, shape, 40) + 0.07 * _noise(rng, shape, 5)
    eosin += 0.09 * fibres + 0.05 * _noise(rng, shape, 2)
    haem = 0.12 + 0.04 * _noise(rng, shape, 30) + 0.03 * _noise(rng, shape, 3)
    glass = _step(12 * (_noise(rng, shape, 55) - 1.35))  # clefts between the fibres
    for cy, cx, ring in glands:
        d = _relative_radius(rng, yy - cy, xx - cx, ring, rng.uniform(1.0, 1.3), 0.08)
        haem += 0.22 * np.exp(-(((d - 1) / 0.4) ** 2))
        glass = np.maximum(glass, _step(20 * (0.42 - d)))  # the lumen
    return haem * (1 - glass), eosin * (1 - 0.93 * glass), glass


def _develop(rng: Generator, haem: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """Mix two stain maps (H, W) into an RGB image (H, W, 3) uint8."""
    mix = rng.uniform(0.2, 1.0)
    stains = (1 - mix) * _STAINS[0] + mix * _STAINS[1]
    stains = np.maximum(stains + rng.normal(0, 0.025, (2, 3)), 0.02)
    strength = rng.uniform(0.85, 1.15, 2)
    maps = [
        ndimage.gaussian_filter(np.maximum(m, 0.02) * s, 0.6)  # the optics' blur
        for m, s in zip((haem, eosin), strength, strict=True)
    ]
    rgb = rng.uniform(238, 252) * np.exp(-np.tensordot(np.stack(maps, -1), stains, 1))
    rgb += rng.normal(0, 2.5, rgb.shape)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _place(
    inside: np.ndarray, taken: np.ndarray, centre: Callable[[int], np.ndarray]
) -> tuple[tuple[slice, slice], tuple[slice, slice], np.ndarray] | None:
    """Find room for a cell that hardly overlaps others.

    Args:
        inside: (h, w) bool, the cell.
        taken: (H, W) bool, the pixels of others and of glass.
        centre: Where to try it next, (y, x), by the number of the attempt.

    Returns:
        The box in the tile, the part of the cell in it, and the (box) bool pixels that
        are left of the cell; None where no attempt finds room.
    """
    for attempt in range(_TRIES):
        low = np.rint(centre(attempt)).astype(int) - np.array(inside.shape) // 2
        start, stop = np.maximum(low, 0), np.minimum(low + inside.shape, taken.shape)
        if (start >= stop).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        part = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
        parts, _ = ndimage.label(inside[part] & ~taken[box])
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = parts == max(sizes.argmax(), 1)  # a cut may leave two pieces
        if mask.sum() >= max(_MIN_AREA, (1 - _MAX_CUT) * inside[part].sum()):
            return box, part, mask
    return None


def _counts(rng: Generator, total: float, classes: Sequence[int]) -> np.ndarray:
    """(5,) int: how many spindles and how many cells of each class to draw."""
    counts = np.zeros(5, int)
    share = np.array([_SHARES[k - 1] for k in classes])
    if share.size:
        draw = rng.multinomial(round(total), share / share.sum())
        # One of each, so that a tiny data set does not lack a rare class altogether.
        counts[list(classes)] = np.maximum(draw, total > share.size)
        counts[0] = rng.poisson(0.08 * total)
    return counts


def draw_tile(
    rng: Generator,
    shape: tuple[int, int] = (256, 256),
    density: float = 40.0,
    classes: Sequence[int] = (1, 2, 3, 4),
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw one synthetic tile.

    Args:
        rng: source of all randomness; equal states give equal tiles.
        shape: (H, W) in pixels; cells have the size they have at 40x.
        density: cells per 256x256 pixels, give or take a tenth; 0 draws none. A
            tile that is full holds fewer.
        classes: those of the classes 1 to 4 that occur, where there is room; none
            gives no cell.

    Returns:
        The image (H, W, 3) uint8, and four label images (H, W) int32, one for each
        class, 0 where there is none of it. The ids run from 1 without gaps and
        continue from one class to the next; cells touch, but never overlap.
    """
    total = density * shape[0] * shape[1] / 256**2 * rng.uniform(0.9, 1.1)
    counts = _counts(rng, total, classes)
    glands = rng.uniform((0, 0, 30), (*shape, 55), (-(-counts[1] // 11), 3))
    haem, eosin, glass = _background(rng, shape, glands)
    taken = glass > 0.5
    focus = rng.uniform(0, shape)

    def centre(kind: int, attempt: int) -> np.ndarray:
        """Cells gather around glands and a focus; where these are full, anywhere."""
        crowd = rng.random() < (0.0, 0.85, 0.5, 0.0, 0.0)[kind]
        if not crowd or attempt > _TRIES // 2:
            return rng.uniform(0, shape)
        if kind == 2:
            return rng.normal(focus, 32)
        cy, cx, ring = glands[rng.integers(len(glands))]
        angle, ring = rng.uniform(0, 2 * np.pi), rng.normal(ring, 7)
        return np.array([cy + ring * np.sin(angle), cx + ring * np.cos(angle)])

    placed: list[tuple[int, tuple[slice, slice], np.ndarray]] = []
    # The large ones first, as long as there is room for them.
    for kind in np.repeat([4, 1, 3, 2, 0], counts[[4, 1, 3, 2, 0]]):
        inside, cell_haem, cell_eosin = _DRAW[kind](rng)
        place = _place(inside, taken, functools.partial(centre, kind))
        if place is None:
            continue
        box, part, mask = place
        taken[box] |= mask
        if kind:
            placed.append((kind, box, mask))
        # Blurring the cut mask keeps the half-way point of the edge on the outline.
        alpha = ndimage.gaussian_filter(mask.astype(float), 0.7, mode="nearest")
        haem[box] += alpha * (cell_haem[part] - haem[box])
        eosin[box] += alpha * (cell_eosin[part] - eosin[box])

    labels = [np.zeros(shape, np.int32) for _ in CLASSES]
    placed.sort(key=lambda item: item[0])
    for number, (kind, box, mask) in enumerate(placed, start=1):
        labels[kind - 1][box][mask] = number
    return _develop(rng, haem, eosin), labels


def _shape(rng: Generator, size: int, index: int) -> tuple[int, int]:
    """Shape of the n-th image: every fifth one is not square."""
    if index % 5 != 2:
        return size, size
    sides = round(size * rng.uniform(0.55, 0.85)), round(size * rng.uniform(1.0, 1.4))
    return sides if rng.random() < 0.5 else sides[::-1]


def _write_image(path: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as the release does.

    RGBA with red and blue exchanged, opaque, LZW with predictor.
    """
    stored = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255, np.uint8)])
    how = {"compression": "lzw", "predictor": True, "extrasamples": ["unassalpha"]}
    tifffile.imwrite(path, stored, photometric="rgb", **how)


def _write_labels(folder: Path, rng: Generator, labels: list[np.ndarray]) -> None:
    """Write a float64 file for each class that occurs, with gaps in the ids."""
    n = max(int(label.max()) for label in labels)
    steps = 1 + (rng.random(n) < 0.1)  # a step of 2 leaves a gap
    ids = np.concatenate([[0], np.cumsum(steps)]).astype(np.float64)
    for number, label in enumerate(labels, start=1):
        if label.any():
            path = folder / f"class{number}.tif"
            tifffile.imwrite(path, ids[label], compression="lzw")


def _write_table(
    folder: Path, rng: Generator, entries: list[tuple[str, int, int]]
) -> None:
    """Give (name, H, W) of the test images ids that do not follow the names."""
    rng.shuffle(entries)
    if entries == sorted(entries):
        entries.reverse()
    table = [
        {"file_name": name, "id": i, "height": height, "width": width}
        for i, (name, height, width) in enumerate(entries, start=1)
    ]
    text = json.dumps(table, indent=4)
    (folder / "test_image_name_to_ids.json").write_text(text)


def _check_sizes(n_train: int, n_test: int, size: int) -> None:
    if n_train < 2 or n_test < 1 or size < 64:
        raise InputError(
            f"n_train={n_train}, n_test={n_test}, size={size}",
            "too small for a data set",
            "Ask for at least 2 training images, 1 test image and 64 pixels",
        )


def _new_folder(root: Path) -> Path:
    """The same path if it is an empty folder or does not exist; makes its parents."""
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise InputError(
            root, "exists and is not empty", "Remove it or name another folder"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    return root


def write_dataset(
    root: str | Path,
    n_train: int = 48,
    n_test: int = 6,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[list], Iterable] = iter,
) -> dict[str, int]:
    """Write a synthetic data set in the released layout, atomically.

    The quirks of the release are kept: RGBA images with red and blue exchanged,
    float64 label images, ids that continue across the class files of one image and have
    gaps, no file for an absent class, test ids that do not follow the names. The last
    training image has no cell, the first test image has a side below 64 pixels.

    Args:
        root: a folder that is empty or does not exist.
        n_train: training images, at least 2.
        n_test: test images, at least 1.
        size: side of most images in pixels, at least 64.
        seed: decides every name, shape and pixel.
        progress: wraps the list of images to iterate over, such as ``tqdm``.

    Returns:
        The number of annotated training instances of each class, by its name.

    Raises:
        InputError: The folder is not empty, or a number is below its minimum.
    """
    _check_sizes(n_train, n_test, size)
    root = _new_folder(Path(root).resolve())
    counts = dict.fromkeys(CLASSES, 0)
    entries = []
    jobs = [("train", i) for i in range(n_train)] + [("test", i) for i in range(n_test)]
    # A sibling is on the same file system, so that the last step is one rename.
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as temp:
        part = Path(temp) / root.name
        (part / "test_release").mkdir(parents=True)
        for split, index in progress(jobs):
            rng = np.random.default_rng([seed, split == "test", index])
            name = str(uuid.UUID(bytes=rng.bytes(16), version=4))
            shape, classes = _shape(rng, size, index), _CLASS_SETS[index % 7]
            if (split, index) == ("test", 0):
                shape = (40, 2 * size // 3)
            elif (split, index) == ("train", n_train - 1):
                classes = ()
            rgb, labels = draw_tile(rng, shape, classes=classes)
            if split == "test":
                _write_image(part / "test_release" / f"{name}.tif", rgb)
                entries.append((f"{name}.tif", *shape))
                continue
            folder = part / "train" / name
            folder.mkdir(parents=True)
            _write_image(folder / "image.tif", rgb)
            _write_labels(folder, rng, labels)
            for kind, label in zip(CLASSES, labels, strict=True):
                counts[kind] += np.count_nonzero(np.unique(label))
        _write_table(part, np.random.default_rng([seed, 2]), entries)
        part.replace(root)
    return counts
