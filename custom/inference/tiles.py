"""Cut an image into overlapping tiles and merge their detections.

Every tile has a core; the cores are a partition of the image, their boundaries lie in
the middle of the overlaps. An object belongs to the tile whose core holds the centre
of its box, a rule that does not depend on the other tiles (as stardist's
``Block.is_responsible``): what any tile sees whole, its owner sees whole. What touches
a tile's inner border is a piece. It goes where a neighbour has the whole object; pieces
of an object that no tile sees whole are known by the pixels that both tiles see, and
are joined.

So cutting, predicting with an oracle and merging give back the input, whatever the
sizes are, as long as the tiles overlap by a pixel, each instance is connected (by sides
or corners) and instances of one class overlap by less than half of the smaller one. A
network is not an oracle: it sees an object a little differently in each tile. Hence the
tolerances of :class:`TileMerger`, which change nothing for an oracle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from custom.errors import InputError
from custom.structures.box_masks import BoxMasks


class TileGrid:
    """The tiles of an image, row by row.

    As few tiles as the overlap allows, spread evenly, so that neighbours share at
    least ``overlap`` pixels. An image smaller than a tile is one tile of its own size.

    Args:
        size: (H, W) of the image.
        tile: Side of a tile in pixels, or (h, w).
        overlap: Pixels that neighbours share at least; objects up to this size, less
            twice the border of :class:`TileMerger`, are seen whole by a tile.

    Raises:
        InputError: The overlap is not between 1 and the tile less one.
    """

    def __init__(
        self, size: tuple[int, int], tile: int | tuple[int, int], overlap: int
    ) -> None:
        height, width = (tile, tile) if isinstance(tile, int) else tile
        if overlap >= min(height, width):
            raise InputError(
                "overlap of the tiles",
                f"{overlap} pixels is not smaller than the tile's {height} x {width}",
                "Choose larger tiles, or an overlap of a fourth to half of the tile",
            )
        if overlap < 1:
            raise InputError(
                "overlap of the tiles",
                f"{overlap} pixels: the pieces of a cell are known by the pixels that "
                "two tiles share",
                "Choose at least 1, better the size of a large cell",
            )
        self.size, self.overlap = (int(size[0]), int(size[1])), overlap
        self.rows = _spans(self.size[0], height, overlap)
        self.columns = _spans(self.size[1], width, overlap)
        self._seams = _seams(self.rows), _seams(self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __getitem__(self, index: int) -> tuple[int, int, int, int]:
        """(y1, x1, y2, x2) of a tile."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, len(self.columns))
        (y1, y2), (x1, x2) = self.rows[row].tolist(), self.columns[column].tolist()
        return y1, x1, y2, x2

    def core(self, index: int) -> tuple[float, float, float, float]:
        """(y1, x1, y2, x2) of a tile's core; without end at the image's borders."""
        row, column = divmod(index, len(self.columns))
        y, x = self._seams
        return y[row], x[column], y[row + 1], x[column + 1]

    def owner(self, y: int, x: int) -> int:
        """The tile whose core holds the centre of a pixel."""
        row, column = (
            np.searchsorted(seams, place + 0.5, side="right") - 1
            for seams, place in zip(self._seams, (y, x), strict=True)
        )
        return int(row * len(self.columns) + column)


def _spans(length: int, tile: int, overlap: int) -> np.ndarray:
    """(n, 2) int64 first pixel of each tile and the one past its last."""
    if length <= tile:
        return np.array([[0, length]])
    count = -(-(length - overlap) // (tile - overlap))
    first = np.arange(count) * (length - tile) // (count - 1)
    return np.stack([first, first + tile], axis=1)


def _seams(spans: np.ndarray) -> np.ndarray:
    """(n + 1,) float64, where the cores of n tiles begin and end."""
    middles = (spans[1:, 0] + spans[:-1, 1]) / 2
    return np.concatenate([[-np.inf], middles, [np.inf]])


@dataclass
class Detections:
    """Detections in one image.

    Attributes:
        boxes: (N, 4) float64, xyxy in pixels of the image.
        scores: (N,) float64.
        labels: (N,) int64.
        masks: N masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: BoxMasks

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray) -> Detections:
        return Detections(
            self.boxes[index], self.scores[index], self.labels[index], self.masks[index]
        )

    @classmethod
    def cat(cls, parts: list[Detections]) -> Detections:
        """Concatenate detections of one image."""
        return cls(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.labels for p in parts]),
            BoxMasks.cat([p.masks for p in parts]),
        )

    def state(self) -> dict[str, np.ndarray]:
        """The detections as arrays for a file."""
        masks = self.masks
        return {
            "boxes": self.boxes,
            "scores": self.scores,
            "labels": self.labels,
            "windows": masks.windows,
            "bits": masks.bits,
            "starts": masks.starts,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, np.ndarray], size: tuple[int, int]
    ) -> Detections:
        """The detections that :meth:`state` gave, in an image of (H, W) ``size``."""
        masks = BoxMasks(state["windows"], state["bits"], state["starts"], size)
        return cls(state["boxes"], state["scores"], state["labels"], masks)


class TileMerger:
    """Gathers the detections of all tiles and joins those of cut objects.

    What another tile owns is dropped at once; what is left costs about h·w/8 + 80
    bytes for an object of h x w pixels, whatever the size of the image.

    Args:
        grid: The tiles.
        border: A box that comes within this many pixels of a tile's inner border is a
            piece. Boxes of a network end near the border, not on it.
        band: An object is also kept by a tile whose core its centre misses by up to
            this many pixels. Its centre is not the same in two tiles, and without the
            band both could leave it to the other; suppression takes one away.
        agree: Share of pixels from which two masks are one object: of a piece that
            lies in a whole object, of the union of two pieces where both tiles look, of
            the union of two masks of different tiles (non-maximum suppression).
    """

    def __init__(
        self, grid: TileGrid, border: int = 2, band: int = 2, agree: float = 0.5
    ) -> None:
        self.grid, self.border, self.band, self.agree = grid, border, band, agree
        empty = BoxMasks.from_patches([], grid.size)
        nothing = Detections(
            np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), empty
        )
        self._parts = [nothing]
        self._tiles = [np.zeros(0, np.int64)]
        self._cut = [np.zeros(0, bool)]

    def add(
        self,
        index: int,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        masks,
    ) -> None:
        """Add the detections of one tile.

        Args:
            index: Of the tile.
            boxes: (N, 4) float xyxy in pixels of the whole image.
            scores: (N,) float.
            labels: (N,) int.
            masks: N masks with ``patches()`` in pixels of the whole image. Pixels
                outside the tile do not count, masks without pixels are dropped.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        cut = self._is_cut(index, boxes)
        keep = np.flatnonzero(cut | self._owns(index, boxes))
        masks = BoxMasks.from_patches(
            masks[keep].patches(), self.grid.size, clip=self.grid[index]
        )
        seen = masks.windows[:, 2] > masks.windows[:, 0]
        keep, masks = keep[seen], masks[seen]
        self._parts.append(
            Detections(
                boxes[keep],
                np.asarray(scores, np.float64)[keep],
                np.asarray(labels, np.int64)[keep],
                masks,
            )
        )
        self._tiles.append(np.full(len(keep), index))
        self._cut.append(cut[keep])

    def state(self) -> dict[str, np.ndarray]:
        """All detections added so far, as arrays for a file; see :meth:`restore`."""
        return {
            **Detections.cat(self._parts).state(),
            "tiles": np.concatenate(self._tiles),
            "cut": np.concatenate(self._cut),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Add what another merger of the same grid has gathered.

        Args:
            state: Of :meth:`state`. Tiles must come in ascending order.
        """
        self._parts.append(Detections.from_state(state, self.grid.size))
        self._tiles.append(state["tiles"])
        self._cut.append(state["cut"])

    def _is_cut(self, index: int, boxes: np.ndarray) -> np.ndarray:
        """(N,) bool, whether boxes touch a border that is not the image's."""
        (y1, x1, y2, x2), (height, width) = self.grid[index], self.grid.size
        low = [x1 + self.border if x1 else -np.inf, y1 + self.border if y1 else -np.inf]
        high = [
            x2 - self.border if x2 < width else np.inf,
            y2 - self.border if y2 < height else np.inf,
        ]
        return np.any((boxes[:, :2] < low) | (boxes[:, 2:] > high), axis=1)

    def _owns(self, index: int, boxes: np.ndarray) -> np.ndarray:
        """(N,) bool, whether the centres lie in a tile's core, grown by the band."""
        y1, x1, y2, x2 = self.grid.core(index)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        low = np.array([x1, y1]) - self.band
        high = np.array([x2, y2]) + self.band
        return ((center >= low) & (center < high)).all(axis=1)

    def merge(self) -> Detections:
        """The detections of the whole image, best score first."""
        detections = Detections.cat(self._parts)
        tiles, cut = np.concatenate(self._tiles), np.concatenate(self._cut)
        first, second = box_pairs(detections.masks.windows)
        labels = detections.labels
        meet = (tiles[first] != tiles[second]) & (labels[first] == labels[second])
        first, second = first[meet], second[meet]
        shared = shared_pixels(detections.masks, first, second)
        first, second, shared = (a[shared > 0] for a in (first, second, shared))
        areas = detections.masks.areas

        # Pieces of what another tile sees whole.
        dropped = np.zeros(len(detections), bool)
        for piece, whole in ((first, second), (second, first)):
            part = cut[piece] & ~cut[whole] & (shared >= self.agree * areas[piece])
            dropped[piece[part]] = True

        # Pieces of what no tile sees whole.
        both = cut[first] & cut[second] & ~dropped[first] & ~dropped[second]
        a, b, common = first[both], second[both], shared[both]
        union = _areas_seen(detections.masks, a, tiles[b], self.grid) - common
        union += _areas_seen(detections.masks, b, tiles[a], self.grid)
        same = common >= self.agree * union
        links = coo_matrix((same[same], (a[same], b[same])), [len(detections)] * 2)
        count, group = connected_components(links, directed=False)
        joined = np.bincount(group, minlength=count)[group] > 1

        # Pieces that are not detected by the tile that owns their middle.
        pieces = np.flatnonzero(cut & ~dropped)
        home = [self.grid.owner(*_middle(detections.masks, i)) for i in pieces]
        seen = set(zip(group[pieces].tolist(), tiles[pieces].tolist(), strict=True))
        confirmed = np.zeros(count, bool)
        for g, owner in zip(group[pieces].tolist(), home, strict=True):
            confirmed[g] |= (g, owner) in seen
        dropped |= cut & ~confirmed[group]

        single = np.flatnonzero(~dropped & ~joined)
        several = np.flatnonzero(~dropped & joined)
        several = several[np.argsort(group[several], kind="stable")]
        ends = np.flatnonzero(np.diff(group[several], prepend=-1))
        parts = np.split(several, ends[1:]) if len(several) else []
        whole = Detections.cat(
            [detections[single], *(_join(detections[p]) for p in parts)]
        )
        place = np.full(len(detections), -1)
        place[single] = np.arange(len(single))
        for i, part in enumerate(parts, len(single)):
            place[part] = i
        return self._suppress(whole, place[first], place[second])

    def _suppress(
        self, detections: Detections, first: np.ndarray, second: np.ndarray
    ) -> Detections:
        """Non-maximum suppression on masks, between the pairs alone."""
        pairs = (first >= 0) & (second >= 0) & (first != second)
        a, b = first[pairs], second[pairs]
        shared, areas = shared_pixels(detections.masks, a, b), detections.masks.areas
        same = shared >= self.agree * (areas[a] + areas[b] - shared)
        order = np.argsort(-detections.scores, kind="stable")
        rank = np.argsort(order)
        leader = leaders(rank[a[same]], rank[b[same]], len(order))
        return detections[order[leader == np.arange(len(order))]]


def leaders(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Non-maximum suppression of detections between pairs that are the same object.

    Args:
        first: (P,) indices of detections, of which 0 is the best.
        second: (P,) likewise.
        count: N, how many detections there are.

    Returns:
        (N,) int64, the detection that suppresses each; those that stay have their own
        index.
    """
    links = coo_matrix((np.ones(len(first)), (first, second)), (count, count))
    near = (links + links.T).tocsr()
    leader = np.full(count, -1)
    for i in range(count):
        if leader[i] < 0:
            leader[i] = i
            pairs = near.indices[near.indptr[i] : near.indptr[i + 1]]
            leader[pairs[leader[pairs] < 0]] = i
    return leader


def _common(a: tuple, b: tuple) -> tuple[int, int, int, int]:
    """The (y1, x1, y2, x2) that two rectangles share."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def box_pairs(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of boxes that overlap, as two index arrays, the smaller index first.

    Args:
        boxes: (N, 4), xyxy or yxyx.
    """
    shapes = shapely.box(*boxes.T)
    first, second = shapely.STRtree(shapes).query(shapes)
    low = np.maximum(boxes[first, :2], boxes[second, :2])
    high = np.minimum(boxes[first, 2:], boxes[second, 2:])
    meet = (first < second) & (low < high).all(axis=1)
    first, second = first[meet], second[meet]
    order = np.lexsort((second, first))
    return first[order], second[order]


def _cropped(masks: BoxMasks, index: int, window: tuple) -> np.ndarray:
    """The pixels of a mask in (y1, x1, y2, x2), which overlaps its box."""
    y, x, patch = masks.patch(index)
    y1, x1, y2, x2 = window
    return patch[max(y1 - y, 0) : max(y2 - y, 0), max(x1 - x, 0) : max(x2 - x, 0)]


def _middle(masks: BoxMasks, index: int) -> tuple[int, int]:
    """(y, x) of the pixel of a mask that is nearest to the centre of its box."""
    y, x, patch = masks.patch(index)
    rows, columns = np.nonzero(patch)
    away = (2 * rows + 1 - patch.shape[0]) ** 2 + (
        2 * columns + 1 - patch.shape[1]
    ) ** 2
    nearest = away.argmin()
    return y + int(rows[nearest]), x + int(columns[nearest])


def shared_pixels(masks: BoxMasks, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P,) int64, pixels that the masks of each pair share."""
    shared = np.zeros(len(first), np.int64)
    for k, (i, j) in enumerate(zip(first, second, strict=True)):
        window = _common(masks.windows[i].tolist(), masks.windows[j].tolist())
        both = _cropped(masks, i, window) & _cropped(masks, j, window)
        shared[k] = np.count_nonzero(both)
    return shared


def _areas_seen(
    masks: BoxMasks, index: np.ndarray, tiles: np.ndarray, grid: TileGrid
) -> np.ndarray:
    """(P,) int64, pixels of each mask that lie in a tile."""
    areas = np.zeros(len(index), np.int64)
    for k, (i, tile) in enumerate(zip(index, tiles, strict=True)):
        window = _common(masks.windows[i].tolist(), grid[tile])
        areas[k] = np.count_nonzero(_cropped(masks, i, window))
    return areas


def _join(pieces: Detections) -> Detections:
    """One detection of several: the union of boxes and masks, the best score."""
    boxes, masks = pieces.boxes, pieces.masks
    low, high = masks.windows[:, :2].min(axis=0), masks.windows[:, 2:].max(axis=0)
    canvas = np.zeros(high - low, bool)
    for y, x, patch in masks.patches():
        y, x = y - low[0], x - low[1]
        canvas[y : y + patch.shape[0], x : x + patch.shape[1]] |= patch
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return Detections(
        box[None],
        pieces.scores.max(keepdims=True),
        pieces.labels[:1],
        BoxMasks.from_patches([(int(low[0]), int(low[1]), canvas)], masks.size),
    )
