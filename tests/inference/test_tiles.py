"""Cutting into tiles and merging is the identity for an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from custom.errors import InputError
from custom.inference.tiles import TileGrid, TileMerger
from custom.structures import LabelMasks

many = settings(deadline=None, max_examples=150)


class Shifted:
    """Masks of a crop in pixels of the image that it is from."""

    def __init__(self, masks: LabelMasks, y: int, x: int):
        self.masks, self.y, self.x = masks, y, x

    def __getitem__(self, index):
        return Shifted(self.masks[index], self.y, self.x)

    def patches(self):
        return ((y + self.y, x + self.x, p) for y, x, p in self.masks.patches())


def oracle(labels, classes, scores, tile):
    """What a perfect network finds in a tile: boxes, scores, labels, masks."""
    y1, x1, y2, x2 = tile
    masks, (ids,) = LabelMasks.from_label_images([labels[y1:y2, x1:x2]])
    boxes = masks.boxes() + np.array([x1, y1, x1, y1], np.float32)
    return boxes, scores[ids], classes[ids], Shifted(masks, y1, x1)


def through_tiles(labels, classes, scores, grid, **tolerances):
    merger = TileMerger(grid, **tolerances)
    for index in range(len(grid)):
        merger.add(index, *oracle(labels, classes, scores, grid[index]))
    return merger.merge()


def assert_identity(labels, classes, scores, result):
    """Each instance came out once, with its pixels, box, class and score."""
    expected, (ids,) = LabelMasks.from_label_images([labels])
    assert len(result) == len(ids)
    assert (np.diff(result.scores) <= 0).all()
    seen = []
    for box, score, label, (y, x, patch) in zip(
        result.boxes, result.scores, result.labels, result.masks.patches(), strict=True
    ):
        window = labels[y : y + patch.shape[0], x : x + patch.shape[1]]
        (identity,) = np.unique(window[patch])
        seen.append(identity)
        assert score == scores[identity] and label == classes[identity]
        place = int(np.searchsorted(ids, identity))
        np.testing.assert_array_equal(box, expected.boxes()[place])
        assert patch.sum() == (labels == identity).sum()
    assert sorted(seen) == ids.tolist()


def connected_labels(rng, size, density):
    """Instances of any shape, from specks to snakes, connected by sides or corners."""
    smooth = ndimage.gaussian_filter(rng.random(size), rng.choice([0, 0.7, 2]))
    inside = smooth <= np.quantile(smooth, density)
    labels, count = ndimage.label(inside, np.ones((3, 3)))
    # Touching instances: cut the image in two and count anew, some of them.
    if rng.random() < 0.5:
        labels[:, size[1] // 2 :] += (labels[:, size[1] // 2 :] > 0) * count
        renumbered = np.zeros_like(labels)
        top = 0
        for i in np.unique(labels[labels > 0]):
            part, n = ndimage.label(labels == i, np.ones((3, 3)))
            renumbered[part > 0] = part[part > 0] + top
            top += n
        labels, count = renumbered, top
    ids = np.concatenate([[0], rng.permutation(np.arange(1, count + 1))])
    return ids[labels].astype(np.int32), count


@many
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(1, 70)] * 2),
    tile=st.tuples(*[st.integers(2, 40)] * 2),
    share=st.floats(0, 1),
    density=st.floats(0, 0.8),
    border=st.integers(1, 4),
    band=st.integers(0, 4),
)
def test_cut_predict_merge_is_the_identity_for_an_oracle(
    seed, size, tile, share, density, border, band
):
    rng = np.random.default_rng(seed)
    labels, count = connected_labels(rng, size, density)
    classes, scores = rng.integers(0, 3, count + 1), rng.random(count + 1)
    grid = TileGrid(size, tile, 1 + int(share * (min(tile) - 2)))
    detections = through_tiles(labels, classes, scores, grid, border=border, band=band)
    assert_identity(labels, classes, scores, detections)


def lengths(most):
    """Sides of an image and of a tile, and a share of it for the overlap."""
    return st.tuples(st.integers(1, most), st.integers(2, 100), st.floats(0, 1))


@many
@given(lengths(400), st.integers(1, 3))
def test_tiles_cover_the_image_with_the_overlap_and_no_tile_too_many(axis, height):
    length, tile, share = axis
    overlap = 1 + int(share * (tile - 2))
    grid = TileGrid((height, length), (max(height, overlap + 1), tile), overlap)
    x1, x2 = np.array([t[1] for t in grid]), np.array([t[3] for t in grid])
    assert x1[0] == 0 and x2[-1] == length
    assert (x2 - x1 == min(tile, length)).all()
    assert (x2[:-1] - x1[1:] >= overlap).all()
    # One tile less could not keep the overlap.
    assert len(grid) == 1 or (len(grid) - 1) * (tile - overlap) + overlap < length


@many
@given(lengths(12), lengths(25))
def test_every_pixel_lies_in_exactly_one_core_and_in_its_tile(rows, columns):
    tile = rows[1], columns[1]
    overlap = 1 + int(rows[2] * (min(tile) - 2))
    grid = TileGrid((rows[0], columns[0]), tile, overlap)
    owners = np.zeros(grid.size, int)
    for index, (y1, x1, y2, x2) in enumerate(grid):
        low_y, low_x, high_y, high_x = grid.core(index)
        y, x = np.arange(grid.size[0]) + 0.5, np.arange(grid.size[1]) + 0.5
        inside = np.outer((y >= low_y) & (y < high_y), (x >= low_x) & (x < high_x))
        owners += inside
        for row, column in np.argwhere(inside)[[0, -1]] if inside.any() else []:
            assert grid.owner(row, column) == index
        assert not inside[:y1].any() and not inside[y2:].any()
        assert not inside[:, :x1].any() and not inside[:, x2:].any()
    assert (owners == 1).all()


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 80), ((64, 32), 32)])
def test_overlap_not_smaller_than_the_tile_is_refused(tile, overlap):
    with pytest.raises(InputError, match="not smaller than the tile"):
        TileGrid((100, 100), tile, overlap)


def test_tiles_without_overlap_are_refused():
    with pytest.raises(InputError, match="share"):
        TileGrid((100, 100), 64, 0)


def test_image_smaller_than_a_tile_is_one_tile_of_its_size():
    assert list(TileGrid((33, 86), 768, 192)) == [(0, 0, 33, 86)]


# A network is no oracle. Two tiles of 60 x 60 that share x in 40..60, cores meet at 50.
GRID = TileGrid((60, 100), 60, 20)


def rectangles(*boxes):
    """Masks that fill their boxes (x1, y1, x2, y2)."""
    planes = np.zeros((len(boxes), 60, 100), np.int32)
    for plane, (x1, y1, x2, y2) in zip(planes, boxes, strict=True):
        plane[y1:y2, x1:x2] = 1
    return LabelMasks(planes, np.arange(len(boxes)), np.ones(len(boxes)))


def merged(left, right):
    """Merge (x1, y1, x2, y2, score, label) of the two tiles."""
    merger = TileMerger(GRID)
    for index, result in enumerate((left, right)):
        rows = np.array(result, float).reshape(-1, 6)
        boxes = rows[:, :4].astype(int)
        merger.add(index, boxes, rows[:, 4], rows[:, 5], rectangles(*boxes))
    result = merger.merge()
    return [
        (*map(int, box), float(score), int(label))
        for box, score, label in zip(
            result.boxes, result.scores, result.labels, strict=True
        )
    ]


def test_a_cell_whose_centre_moves_between_tiles_is_neither_lost_nor_doubled():
    # Each tile would leave it to the other: 50.5 is right of the seam, 49.5 left.
    assert merged([(45, 20, 56, 30, 0.9, 0)], [(44, 20, 55, 30, 0.8, 0)]) == [
        (45, 20, 56, 30, 0.9, 0)
    ]
    # Each tile would keep it.
    assert merged([(44, 20, 55, 30, 0.7, 0)], [(45, 20, 56, 30, 0.8, 0)]) == [
        (45, 20, 56, 30, 0.8, 0)
    ]


def test_a_piece_of_a_whole_cell_goes_even_if_it_scores_higher():
    whole = (52, 20, 70, 30, 0.5, 1)
    assert merged([(51, 20, 60, 31, 0.9, 1)], [whole]) == [whole]


def test_a_piece_of_a_whole_cell_goes_even_if_its_own_tile_owns_its_middle():
    # Two blobs and a bridge: the left tile sees one blob, which lies in its core.
    labels = np.zeros((60, 100), np.int32)
    labels[20:40, 42:48] = labels[20, 42:70] = labels[20:40, 60:70] = 1
    classes, scores = np.zeros(2, int), np.array([0, 0.5])
    result = through_tiles(labels, classes, scores, GRID)
    assert_identity(labels, classes, scores, result)


def test_a_piece_that_touches_two_whole_cells_does_not_join_them():
    cells = [(52, 10, 70, 20, 0.8, 1), (52, 20, 70, 30, 0.7, 1)]
    assert merged([(52, 11, 60, 29, 0.9, 1)], cells) == cells


def test_a_piece_that_its_owner_has_not_found_goes():
    assert merged([(52, 20, 60, 30, 0.9, 0)], []) == []
    assert merged([(52, 20, 60, 30, 0.9, 0)], [(52, 20, 70, 30, 0.5, 1)]) == [
        (52, 20, 70, 30, 0.5, 1)
    ]


def test_pieces_of_two_tiles_that_their_owner_has_not_found_go():
    # Four tiles; the upper two see a speck at their lower border, and agree.
    grid = TileGrid((100, 100), 60, 20)
    merger = TileMerger(grid)
    speck = LabelMasks(np.zeros((1, 100, 100), np.int32), [0], [1])
    speck.planes[0, 57:60, 45:55] = 1
    for index in (0, 1):
        merger.add(index, [[45, 57, 55, 60]], [0.9], [0], speck)
    assert len(merger.merge()) == 0


def test_a_piece_that_its_own_tile_owns_stays():
    piece = (10, 20, 60, 30, 0.9, 0)
    assert merged([piece], []) == [piece]


def test_pieces_join_where_they_agree_in_the_common_strip():
    left, right = (10, 20, 60, 30, 0.6, 2), (40, 21, 90, 30, 0.8, 2)
    assert merged([left], [right]) == [(10, 20, 90, 30, 0.8, 2)]
    # Two cells that meet under the overlap are two.
    left, right = (10, 10, 60, 18, 0.6, 2), (40, 15, 90, 30, 0.8, 2)
    assert merged([left], [right]) == [right, left]
    # And so are cells of two classes.
    left, right = (10, 20, 60, 30, 0.6, 1), (40, 20, 90, 30, 0.8, 2)
    assert merged([left], [right]) == [right, left]


def test_tiles_without_detections_give_none():
    detections = TileMerger(GRID).merge()
    assert len(detections) == 0 and detections.masks.to_rle() == []


def test_masks_do_not_reach_beyond_their_tile():
    merger = TileMerger(GRID)
    merger.add(0, [[10, 20, 60, 30]], [0.5], [0], rectangles((10, 20, 63, 30)))
    assert merger.merge().masks.windows.tolist() == [[20, 10, 30, 60]]
