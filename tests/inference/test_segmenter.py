"""A Segmenter and its result: the forms of one result agree, whatever the input is."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from custom.errors import InputError
from custom.formats.geojson import read_geojson
from custom.inference import Segmentation, Segmenter, segmenter
from custom.inference.overlay import nice_length
from custom.io import pixels
from custom.io.image import check_size, read_labels
from custom.io.slide import open_image
from custom.workbench.predict import outputs
from custom.workbench.predict.outputs import check_kinds, files_of, write_files
from tests.drawn_network import PALETTE, DrawnNetwork, draw_cells
from tests.inference.test_measure import random_scene, segmentation

CENTERS = [(20, 15), (60, 22), (30, 60), (75, 70), (12, 95), (50, 100)]


@pytest.fixture(scope="module")
def image():
    return draw_cells((90, 110), CENTERS)


@pytest.fixture(scope="module")
def cells(image):
    return Segmenter(DrawnNetwork())(image)


def scene(seed):
    """Overlapping cells of two classes."""
    image, masks = random_scene(seed)
    classes = np.random.default_rng(seed).integers(0, 2, len(masks))
    return segmentation(image, masks, classes, mpp=0.25, origin=(7, 1000)), masks


def test_cells_are_found_whole_best_first_above_the_threshold(image, cells):
    assert len(cells) == len(CENTERS) and cells.counts() == {
        "round": 3,
        "square one": 3,
    }
    assert np.all(np.diff(cells.scores) <= 0) and cells.scores.min() >= 0.5
    np.testing.assert_array_equal(cells.labels > 0, image[:, :, 2] != 240)
    best = Segmenter(DrawnNetwork(), score_thr=0.613)(image)
    assert best.rles == cells.above(0.613).rles and 0 < len(best) < len(cells)
    network = DrawnNetwork()
    network.info["score_thr"] = 0.613  # the best of its validation
    assert Segmenter(network)(image).rles == best.rles


def test_tiles_give_what_the_whole_image_gives(image, cells):
    network = DrawnNetwork()
    tiled = Segmenter(network, tile=48, overlap=20, batch_size=3)(image)
    assert max(map(max, network.seen)) == 48
    assert tiled.rles == cells.rles
    np.testing.assert_array_equal(tiled.scores, cells.scores)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_all_forms_of_a_result_agree_in_count_and_area(seed):
    cells, masks = scene(seed)
    areas = [int(mask.sum()) for mask in masks]
    names = [cells.class_names[i] for i in cells.classes]
    frame, coco, features = (
        cells.to_frame(),
        cells.to_coco(),
        cells.to_geojson()["features"],
    )
    assert frame.area.tolist() == areas
    assert frame["class"].tolist() == names
    assert [a["area"] for a in coco["annotations"]] == areas
    assert [a["category_id"] - 1 for a in coco["annotations"]] == list(cells.classes)
    for annotation, mask in zip(coco["annotations"], masks, strict=True):
        np.testing.assert_array_equal(
            coco_mask.decode(annotation["segmentation"]), mask
        )
    assert [f["properties"]["measurements"]["cell"] for f in features] == list(
        range(1, len(masks) + 1)
    )
    for feature, area, name, x, y in zip(
        features, areas, names, frame.x, frame.y, strict=True
    ):
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.is_valid and polygon.area == area
        np.testing.assert_allclose(polygon.centroid.coords[0], [x, y])
        assert feature["properties"]["classification"]["name"] == name
    counts = {name: names.count(name) for name in cells.class_names}
    assert cells.counts() == counts
    assert cells.summary()["cells"] == len(masks)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_better_of_two_cells_is_on_top_however_the_image_is_cut(seed, rows):
    cells, masks = scene(seed)
    for name in (None, *cells.class_names):
        expected = np.zeros(cells.size, int)
        for i in range(len(masks) - 1, -1, -1):
            if name in (None, cells.class_names[cells.classes[i]]):
                expected[masks[i]] = i + 1
        bands = [
            cells.label_rows(y, min(y + rows, cells.size[0]), name)
            for y in range(0, cells.size[0], rows)
        ]
        np.testing.assert_array_equal(np.concatenate(bands), expected)
        if name is None:
            np.testing.assert_array_equal(cells.labels, expected)
            classes = np.append(0, cells.classes + 1)[expected]
            np.testing.assert_array_equal(cells.class_map, classes)
            assert cells.class_map.dtype == np.uint8


def test_written_files_are_read_by_other_programs_and_are_the_result(tmp_path):
    pandas = pytest.importorskip("pandas")
    cells, masks = scene(3)
    image_path = tmp_path / "image.tif"
    whole = np.zeros((1000 + cells.size[0], 7 + cells.size[1], 3), np.uint8)
    tifffile.imwrite(image_path, whole, photometric="rgb")
    kinds = ("overlay", "labels", "geojson", "coco", "csv")
    base = tmp_path / "a.b" / "c.d"
    files = {k: write_files(k, cells, base) for k in kinds}
    for kind in kinds:
        possible = files_of(kind, base, cells.class_names)
        assert files[kind] == possible[: 1 if kind == "overlay" else None]
    labels, classes, *single = map(tifffile.imread, files["labels"])
    np.testing.assert_array_equal(labels, cells.labels)
    np.testing.assert_array_equal(classes, cells.class_map)
    for name, plane in zip(cells.class_names, single, strict=True):
        np.testing.assert_array_equal(plane, cells.label_rows(0, cells.size[0], name))
    for path in files["labels"]:
        np.testing.assert_array_equal(read_labels(path), tifffile.imread(path))
        with tifffile.TiffFile(path) as file:
            assert file.imagej_metadata["unit"] == "um"
            pixels, one = file.pages[0].tags["XResolution"].value
            assert pixels / one == pytest.approx(4)
    read = read_geojson(files["geojson"][0], image_path)  # also checks the format
    assert len(read.masks) == len(masks)
    for (y, x, patch), mask in zip(read.masks.patches(), masks, strict=True):
        inner = mask[y - 1000 :, x - 7 :][: patch.shape[0], : patch.shape[1]]
        assert patch.sum() == mask.sum() and np.array_equal(patch, inner)
    written = json.loads(files["coco"][0].read_text())
    assert written == json.loads(json.dumps(cells.to_coco()))
    frame = pandas.read_csv(files["csv"][0])
    pandas.testing.assert_frame_equal(
        frame, cells.to_frame(), atol=1e-5, check_dtype=False
    )
    assert not list(tmp_path.rglob(".*"))


def test_more_than_65535_cells_are_still_told_apart(tmp_path):
    side = 300
    masks = []
    image = np.zeros((side, side, 3), np.uint8)
    cells = segmentation(image, masks)
    y, x = np.divmod(np.arange(side * side), side)
    windows = np.stack([y, x, y + 1, x + 1], axis=1).astype(np.int32)
    many = type(cells.masks)(
        windows, np.full(len(y), 128, np.uint8), np.arange(len(y)), cells.size
    )
    cells = Segmentation(
        "many", cells.image, windows.astype(float), np.ones(len(y)),
        np.zeros(len(y), np.int64), many, cells.class_names, PALETTE,
    )  # fmt: skip
    labels = read_labels(write_files("labels", cells, tmp_path / "many")[0])
    np.testing.assert_array_equal(labels.ravel(), np.arange(1, len(y) + 1))


def test_filtering_keeps_the_rest_as_it_is(cells):
    squares = cells.of_classes(["square one"])
    assert squares.counts() == {"round": 0, "square one": 3}
    index = np.flatnonzero(cells.classes == 1)
    assert squares.rles == [cells.rles[i] for i in index]
    assert len(cells[:0]) == 0 and cells[:0].to_frame().empty
    assert not cells[:0].labels.any() and cells[:0].overlay().shape == (90, 110, 3)
    with pytest.raises(InputError, match="triangle"):
        cells.of_classes(["triangle"])


def test_an_overlay_shows_contours_legend_and_a_scale_bar_of_the_right_length():
    image = draw_cells((400, 600), [(200, 300), (300, 450)])
    network = DrawnNetwork()
    plain = Segmenter(network)(image).overlay()
    assert plain.shape[0] > 400 and plain.shape[1] == 600
    changed = (plain[:400] != image).any(axis=2)
    assert changed[193, 300] and not changed[200, 300] and not changed[:180].any()
    np.testing.assert_array_equal(plain[193, 300], PALETTE[0])
    legend = plain[400:].reshape(-1, 3)
    assert all((legend == color).all(axis=1).sum() > 20 for color in PALETTE)
    barred = Segmenter(network)(image, mpp=0.5).overlay()
    assert np.array_equal(barred[:400], plain[:400])
    row = (barred[420:] == 0).all(axis=2).sum(axis=1).max()
    assert row == 100  # 50 µm: the most that fits into a fourth of 300 µm


def test_an_overlay_of_a_large_image_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr(pixels, "_BAND_PIXELS", 4000)
    image = draw_cells((400, 600), [(200, 300), (300, 450)], radius=40)
    cells = Segmenter(DrawnNetwork())(image, mpp=0.5)
    small = cells.overlay(max_side=300)
    assert small.shape[0] > 200 and small.shape[1] == 300
    np.testing.assert_array_equal(small[100, 150], image[200, 300])
    np.testing.assert_array_equal(small[80, 150], PALETTE[0])


@pytest.mark.parametrize(
    ("limit", "length"), [(9.9, 5), (10, 10), (0.3, 0.2), (4999, 2000), (1, 1)]
)
def test_scale_bars_have_round_lengths(limit, length):
    assert nice_length(limit) == pytest.approx(length)


def test_a_region_of_a_file_is_that_part_and_knows_its_place(tmp_path, image, cells):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, image, photometric="rgb", tile=(32, 32))
    part = Segmenter(DrawnNetwork())(path, region=(40, 10, 60, 75), mpp=0.5)
    assert part.size == (75, 60) and part.origin == (40, 10) and part.mpp == 0.5
    direct = Segmenter(DrawnNetwork())(image[10:85, 40:100])
    assert part.rles == direct.rles and len(part) == 4
    frame, whole = part.to_frame(), cells.to_frame()
    inside = whole[(whole.x > 50) & (whole.x < 90) & (whole.y > 20)]
    for row in inside.itertuples():
        assert (np.hypot(frame.x - row.x, frame.y - row.y) < 1e-9).sum() == 1
    assert part.to_coco()["images"][0]["origin"] == [40, 10]


def test_an_image_too_large_for_memory_is_read_where_it_is_needed(
    tmp_path, image, cells, monkeypatch
):
    monkeypatch.setattr(segmenter, "_IN_MEMORY", 1000)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, image, photometric="rgb", tile=(32, 32))
    large = Segmenter(DrawnNetwork(), tile=48, overlap=20)(path)
    assert large.rles == cells.rles
    np.testing.assert_array_equal(large.overlay(), cells.overlay())
    drop = ["image"]
    assert (
        large.to_frame().drop(columns=drop).equals(cells.to_frame().drop(columns=drop))
    )


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40), (33, 2, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_gray_transparent_and_deep_images_are_images(shape, dtype):
    image = np.full(shape, np.iinfo(dtype).max, dtype)
    cells = Segmenter(DrawnNetwork())(image)
    assert cells.size == shape[:2] and len(cells) == 0


def test_sixteen_bits_are_scaled_by_the_models_largest_value(image, cells):
    network = DrawnNetwork()
    network.max_value = 4095
    deep = np.rint(image.astype(float) * 4095 / 255).astype(np.uint16)
    assert Segmenter(network)(deep).rles == cells.rles
    assert not Segmenter(network)(deep).notes
    (note,) = Segmenter(DrawnNetwork())(deep).notes
    assert "try --max-value 4095" in note


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((5, 50, 60, 3), np.uint8), "is not an image"),
        (np.zeros((50, 60, 12), np.uint8), "1 to 4 channels"),
        (np.zeros((50, 60), np.float32), "pixels are float32"),
        (np.zeros((50, 60), bool), "pixels are bool"),
        (np.zeros((0, 60, 3), np.uint8), "are not an image"),
        ("no/such.png", "does not exist"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(bad, words):
    with pytest.raises(InputError, match=words):
        Segmenter(DrawnNetwork())(bad)


@pytest.mark.parametrize("region", [(0, 0, 0, 5), (-1, 0, 5, 5), (100, 80, 20, 5)])
def test_a_region_outside_of_the_image_is_refused(image, region):
    with pytest.raises(InputError, match="is not in the image"):
        Segmenter(DrawnNetwork())(image, region=region)


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf")])
def test_a_pixel_size_that_is_none_is_refused(image, mpp):
    with pytest.raises(InputError, match="not a size of a pixel"):
        Segmenter(DrawnNetwork())(image, mpp=mpp)


def test_parquet_without_pyarrow_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(outputs, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        check_kinds(["csv", "parquet"])


@pytest.mark.parametrize(
    "options",
    [
        {"score_thr": 2},
        {"batch_size": 0},
        {"tile": 8, "overlap": 8},
        {"overlap": 0},
        {"channel_order": "gbr"},
        {"max_value": 0},
        {"class_names": ["one"]},
        {"class_names": ["a", "a"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        Segmenter(DrawnNetwork(), **options)


def test_a_label_image_that_would_not_fit_is_refused_before_it_is_made(
    cells, monkeypatch
):
    monkeypatch.setattr(check_size, "__defaults__", (90 * 110 - 1,))
    with pytest.raises(InputError, match="90x110 pixels"):
        _ = cells[:].labels


def matched(cells, centers, step):
    """The share of drawn cells that have one cell of the right place and size."""
    place = cells.to_frame()[["x", "y"]].to_numpy() / step
    near = np.abs(place[:, None] - (np.array(centers)[:, ::-1] + 0.5)).max(2) < 1.5
    return (near.sum(0) == 1).mean() if len(place) == len(centers) else 0.0


@pytest.mark.parametrize("mpp", [0.125, 0.25, 0.5])
def test_images_of_any_pixel_size_give_the_same_cells_in_their_own_pixels(
    tmp_path, mpp
):
    centers = [(y, x) for y in range(30, 380, 35) for x in range(30, 480, 35)]
    image = draw_cells((400, 500), centers, radius=9)
    step = 0.25 / mpp
    size = round(500 * step), round(400 * step)
    same = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    path = tmp_path / "a.tif"
    more = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, same, photometric="rgb", tile=(64, 64), **more)
    network = DrawnNetwork()
    network.mpp = 0.25
    cells = Segmenter(network, tile=160, overlap=48, score_thr=0)(path)
    assert max(map(max, network.seen)) <= 161  # the network sees 0.25 µm
    assert cells.size == same.shape[:2] and cells.mpp == pytest.approx(mpp)
    assert matched(cells, centers, step) == 1
    truth = (same[:, :, 2] <= 200).sum()
    assert (cells.labels > 0).sum() == pytest.approx(truth, rel=0.1)
    # Of no known size: as it is.
    plain = Segmenter(network, tile=160, overlap=48, score_thr=0)(same)
    assert plain.mpp is None and (step != 1 or plain.rles == cells.rles)


class ColourNetwork(DrawnNetwork):
    """Remembers the mean colour of what it sees."""

    channel_order = "bgr"

    def __call__(self, tiles):
        for tile in tiles:
            self.mean = tile.reshape(-1, 3).mean(0)
            yield from super().__call__([tile])


@pytest.fixture(scope="module")
def tissue(shared_data):
    """A slide in true colours."""
    with open_image(sorted((shared_data / "monusac_original").glob("*.svs"))[0]) as im:
        return im.read(0, 0, 600, 600)


def test_the_network_sees_true_colours_and_exchanged_ones_are_said(tissue):
    network = ColourNetwork()
    means = []
    for image, order, said in (
        (tissue, "auto", "true colours.*unlike"),
        (tissue[:, :, ::-1], "auto", ""),
        (tissue, "rgb", ""),
        (tissue, "bgr", "looks like true colours"),
    ):
        cells = Segmenter(network, channel_order=order)(image)
        assert re.search(said, " ".join(cells.notes))
        assert bool(cells.notes) == bool(said)
        assert cells.summary()["warnings"] == "; ".join(cells.notes)
        means.append(network.mean)
        shown = cells.image.read(0, 0, 600, 600)
        np.testing.assert_allclose(shown.mean((0, 1)), network.mean)
    np.testing.assert_allclose(means[:3], [means[0]] * 3)
    np.testing.assert_allclose(means[0], means[3][::-1])
    network.channel_order = None  # a run from before, or another stain
    cells = Segmenter(network)(tissue)
    assert cells.channel_order == "" and not cells.notes


def test_glass_is_left_out_and_no_cell_is_lost(tissue, tmp_path):
    slide = np.full((2400, 2400, 3), 243, np.uint8)
    slide[900:1500, 1200:1800] = tissue
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, slide, photometric="rgb", tile=(256, 256))
    every = Segmenter(DrawnNetwork(), tile=300, overlap=60, score_thr=0, tissue=False)
    some = Segmenter(DrawnNetwork(), tile=300, overlap=60, score_thr=0, tissue=True)
    expected, cells = every(path), some(path)
    assert cells.rles == expected.rles and len(cells) > 10
    predicted, skipped, _ = cells.tiles
    assert skipped > predicted > 0 and expected.tiles[1] == 0
    nothing = some(np.full((700, 900, 3), 240, np.uint8))
    assert len(nothing) == 0 and "it shows no tissue" in nothing.notes
    assert some(tissue).tiles[1] == 0  # tissue from border to border is not glass


def test_a_cell_in_two_classes_counts_once_in_the_better(image, cells):
    class Twice(DrawnNetwork):
        def __call__(self, tiles):
            for boxes, scores, labels, masks in super().__call__(tiles):
                yield (
                    np.tile(boxes, (2, 1)),
                    np.concatenate([scores, 0.99 * scores]),
                    np.concatenate([labels, 1 - labels]),
                    type(masks).cat([masks, masks]),
                )

    assert Segmenter(Twice())(image).rles == cells.rles
    assert len(Segmenter(Twice(), one_class=False, score_thr=0)(image)) == 12


def test_rows_of_tiles_are_the_same_whoever_predicts_them(image, cells, tmp_path):
    segmenter = Segmenter(DrawnNetwork(), tile=32, overlap=20)
    whole = segmenter(image)
    scene = segmenter.open(image)
    rows = {}
    for first in (1, 0):  # two processes, the second one first
        other = Segmenter(DrawnNetwork(), tile=32, overlap=20)
        mine = range(first, scene.rows, 2)
        rows |= {row: other.strip(other.open(image), row) for row in mine}
    merged = segmenter.finish(scene, [rows[i] for i in range(scene.rows)])
    assert merged.rles == whole.rles == cells.rles
    np.testing.assert_array_equal(merged.boxes, whole.boxes)


def test_an_image_that_coco_cannot_express_is_refused_before_it_is_predicted():
    with pytest.raises(InputError, match="too many for COCO's RLE"):
        outputs.check_kinds(["coco"], "slide.svs", (70_000, 70_000))
    outputs.check_kinds(["geojson"], "slide.svs", (70_000, 70_000))
    outputs.check_kinds(["coco"], "slide.svs", (60_000, 70_000))
