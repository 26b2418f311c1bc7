"""Conversions: from every source to every format and back, resumed and interrupted."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from custom.datasets.splits import patients_from_csv
from custom.errors import InputError
from custom.formats import conversion
from custom.formats.annotated import Annotated, Item, Source
from custom.formats.aperio_xml import find_monusac, read_monusac
from custom.formats.coco import CocoWriter, find_coco
from custom.formats.conversion import MANIFEST, convert
from custom.formats.folders import (
    LabelWriter,
    LayoutWriter,
    MaskFolderWriter,
    find_labels,
    find_layout,
    find_mask_folders,
)
from custom.formats.geojson import GeoJsonWriter, find_geojson
from custom.io.image import read_labels
from custom.io.names import IGNORE
from custom.structures import BoxMasks
from tests import annotation_files
from tests.annotation_files import LABELS, RGB, SIZE, SOURCES, image_scope

CLASSES = ("class1", "class2", "class3", "class4")


def pixels(annotated: Annotated) -> Counter:
    """Class and pixels of each instance, in no order."""
    return Counter(
        (name, top, left, mask.shape, mask.tobytes())
        for name, (top, left, mask) in zip(
            annotated.classes, annotated.masks.patches(), strict=True
        )
    )


def whole(source: Source) -> dict[str, tuple[Counter, bytes]]:
    images = {item.name: item.read() for item in source.items}
    return {name: (pixels(f), f.read_image().tobytes()) for name, f in images.items()}


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


# --- what is read ---

EXACT = [n for n in SOURCES if n not in ("monusac", "monuseg", "geojson")]


@pytest.mark.parametrize("name", EXACT)
def test_every_source_gives_the_pixels_that_were_written(tmp_path, name):
    write, find = SOURCES[name]
    write(tmp_path / "in")
    annotated = find(tmp_path / "in").items[0].read()
    np.testing.assert_array_equal(annotated.read_image(), RGB)
    labels = annotated.masks.paint()
    assert annotated.masks.areas.sum() == np.count_nonzero(labels)
    assert not annotated.dropped
    if name == "coco, polygons":  # outlines by hand do not go around holes
        np.testing.assert_array_equal((labels > 0)[LABELS > 0], True)
        assert (labels > 0).sum() - (LABELS > 0).sum() == 6
        return
    pairs = np.unique(np.stack([labels.ravel(), LABELS.ravel()]), axis=1)
    assert pairs.shape[1] == 4
    if not name.startswith(("png", "labels")):
        first, second = (labels[number == LABELS][0] - 1 for number in (1, 700))
        assert annotated.classes[first] != annotated.classes[second]


def test_matlab_types_may_be_listed_by_instance_or_absent(tmp_path):
    annotation_files.mat(tmp_path / "a", type_map=np.zeros(SIZE))
    (item,) = SOURCES["mat, plain"][1](tmp_path / "a").items
    assert item.read().dropped == {"has no type": 3}
    (tmp_path / "b").mkdir()
    annotation_files.write_png(tmp_path / "b" / "a.png", RGB)
    for content, expected in (
        ({"inst_type": [[2], [2], [5]]}, ["type2", "type2", "type5"]),
        ({}, ["nucleus"] * 3),
    ):
        savemat(tmp_path / "b" / "a.mat", {"inst_map": LABELS * 1.0, **content})
        (item,) = SOURCES["mat, plain"][1](tmp_path / "b").items
        assert item.read().classes == expected


def test_monusac_drops_what_is_no_outline_and_keeps_what_is_ambiguous(tmp_path):
    annotation_files.monusac(tmp_path)
    square = [(1, 1), (6, 1), (6, 6), (1, 6)]
    text = image_scope(
        {
            " epithelial ": [square, [(1, 1), (2, 2)], [(40, 1), (42, 1), (42, 3)]],
            "Ambiguous": [square],
        }
    )
    text = text.replace(' MicronsPerPixel="0.2510"', "", 1)
    (tmp_path / "a_1.xml").write_text(text)
    annotated = read_monusac(tmp_path / "a_1.xml", tmp_path / "a_1.tif")
    assert annotated.classes == ["Epithelial", "Ambiguous"]
    assert annotated.masks.patch(0)[2].shape == (6, 6)  # the outline belongs to it
    assert sum(annotated.dropped.values()) == 2
    assert annotated.dropped["covers no pixel of the image"] == 1
    assert (
        "microns_per_pixel" not in annotated.facts and annotated.facts["patient"] == "a"
    )


def test_the_image_beside_the_annotation_is_taken_first(tmp_path):
    annotation_files.monusac(tmp_path / "x")
    other = np.zeros_like(RGB)
    tifffile.imwrite(tmp_path / "a_1.tif", other, photometric="rgb")
    (item,) = find_monusac(tmp_path).items
    assert item.image_file == "x/a_1.tif"


def test_names_must_be_unique(tmp_path):
    annotation_files.monusac(tmp_path / "x")
    annotation_files.monusac(tmp_path / "y")
    with pytest.raises(InputError, match="has the name of"):
        find_monusac(tmp_path)


# --- there and back ---

BACK = {
    "layout": (LayoutWriter(), lambda out, images: find_layout(out)),
    "coco": (CocoWriter(CLASSES), lambda o, i: find_coco(o / "annotations.json", i)),
    "coco-polygons": (
        CocoWriter(CLASSES, polygons=True),
        lambda o, i: find_coco(o / "annotations.json", i),
    ),
    "geojson": (GeoJsonWriter(), find_geojson),
    "png-masks": (MaskFolderWriter(), lambda out, images: find_mask_folders(out)),
    "labels": (LabelWriter(), lambda out, images: find_labels(out)),
}


@pytest.mark.parametrize("target", BACK)
def test_every_instance_survives_there_and_back(tiny_root, tmp_path, target):
    source = find_layout(tiny_root / "train")
    single = dict.fromkeys(CLASSES, "nucleus")
    classes = single if target in ("png-masks", "labels") else None
    writer, find = BACK[target]
    summary = convert(source, writer, tmp_path / "out", classes)
    assert not summary.failed
    back = find(tmp_path / "out", tiny_root / "train")
    expected = whole(source)
    if classes:
        for name, (cells, image) in expected.items():
            cells = Counter({("nucleus", *k[1:]): n for k, n in cells.items()})
            expected[name] = cells, image
    assert whole(back) == expected
    assert sum(len(cells) for cells, _ in expected.values()) > 20


def cells(*windows, classes=None, name="a", size=(20, 20)) -> Source:
    """A source of one image with rectangles (top, left, height, width)."""

    def read() -> Annotated:
        annotated = Annotated(Path("a"), size, lambda: np.zeros((*size, 3), np.uint8))
        masks = [
            (y, x, np.ones((height, width), bool)) for y, x, height, width in windows
        ]
        masks = BoxMasks.from_patches(masks, size)
        names = classes or ["class1"] * len(masks)
        annotated.extend((name, masks[i]) for i, name in enumerate(names))
        return annotated

    file = Path(__file__)
    return Source(file.parent, [Item(name, (file,), "a.png", read, 1)], CLASSES)


def test_later_instances_lie_over_earlier_and_what_is_hidden_is_counted(tmp_path):
    source = cells((2, 2, 3, 3), (0, 0, 10, 10), (5, 5, 10, 10))
    summary = convert(source, LayoutWriter(), tmp_path / "out")
    (record,) = summary.written
    assert record["written"] == {"class1": 2} and record["found"] == {"class1": 3}
    assert record["hidden"] == 1 and record["overlap_pixels"] == 9 + 25
    labels = tifffile.imread(tmp_path / "out" / "a" / "class1.tif")
    assert labels.dtype == np.uint16
    assert np.bincount(labels.ravel()).tolist() == [400 - 175, 75, 100]


def test_overlapping_instances_keep_their_pixels_where_the_format_can(tmp_path):
    source = cells((2, 2, 3, 3), (0, 0, 10, 10), (5, 5, 10, 10))
    for writer in (CocoWriter(CLASSES), GeoJsonWriter(), MaskFolderWriter()):
        out = tmp_path / type(writer).__name__
        (record,) = convert(source, writer, out).written
        assert sum(record["written"].values()) == 3
    masks = sorted((tmp_path / "MaskFolderWriter").glob("a/masks/*.png"))
    assert [read_labels(m).astype(bool).sum() for m in masks] == [9, 100, 100]


# --- regions to ignore ---


def test_regions_to_ignore_keep_their_meaning_in_every_format_that_has_one(tmp_path):
    source = cells((0, 0, 4, 4), (8, 8, 4, 4), classes=["class1", IGNORE])
    layout = tmp_path / "layout"
    convert(source, LayoutWriter(), layout)
    source = find_layout(layout)
    assert source.classes == CLASSES and (layout / "a" / "ignore.tif").exists()
    expected = whole(source)
    coco, qupath = tmp_path / "coco", tmp_path / "geojson"
    convert(source, CocoWriter(CLASSES), coco)
    assert whole(find_coco(coco / "annotations.json", layout)) == expected
    data = json.loads((coco / "annotations.json").read_text())
    crowds = [a["category_id"] for a in data["annotations"] if a["iscrowd"]]
    assert crowds == [1, 2, 3, 4]
    assert [c["name"] for c in data["categories"]] == list(CLASSES)
    convert(source, GeoJsonWriter(), qupath)
    assert whole(find_geojson(qupath, layout)) == expected
    for writer in (MaskFolderWriter(), LabelWriter()):
        (record,) = convert(source, writer, tmp_path / type(writer).__name__).written
        assert record["dropped"] == {"a region to ignore": 1}
        assert record["written"] == {"nucleus": 1}


# --- the run ---


def test_a_second_run_does_only_what_is_new_or_changed(tmp_path):
    annotation_files.pannuke(tmp_path / "in", 3)
    find, out = SOURCES["pannuke"][1], tmp_path / "out"
    first = convert(find(tmp_path / "in"), LayoutWriter(), out)
    assert len(first.written) == 3
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    second = convert(find(tmp_path / "in"), LayoutWriter(), out)
    assert (len(second.written), len(second.skipped)) == (0, 3)
    shutil.rmtree(out / "fold1_00001")
    third = convert(find(tmp_path / "in"), LayoutWriter(), out)
    assert [r["name"] for r in third.written] == ["fold1_00001"]
    kept = [p for p in times if "00001" not in str(p)]
    assert all(p.stat().st_mtime_ns == times[p] for p in kept)
    # Other classes are another conversion, and take the place of the first.
    other = dict.fromkeys(find(tmp_path / "in").classes, "class1")
    fourth = convert(find(tmp_path / "in"), LayoutWriter(), out, other)
    assert len(fourth.written) == 3
    assert sorted(p.name for p in (out / "fold1_00000").iterdir()) == [
        "class1.tif",
        "image.tif",
    ]


class Killed(BaseException):
    """What no part of the conversion catches."""


@pytest.mark.parametrize("place", ["write", "replace", "commit"])
def test_an_interrupted_run_leaves_whole_images_and_goes_on(
    tiny_root, tmp_path, monkeypatch, place
):
    source, out = find_layout(tiny_root / "train"), tmp_path / "out"
    count = 0

    def kill_at_the_third(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 3:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        if place == "write":
            original = LayoutWriter.write
            patched.setattr(LayoutWriter, "write", kill_at_the_third)
        elif place == "replace":
            original = os.replace
            patched.setattr("custom.formats.conversion.os.replace", kill_at_the_third)
        else:
            original = conversion._commit
            patched.setattr(conversion, "_commit", kill_at_the_third)
        with pytest.raises(Killed):
            convert(source, LayoutWriter(), out)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    done = sorted(p.name for p in out.iterdir() if p.is_dir())
    assert len(done) == 2
    # As if the power had failed while a line was written.
    with (out / MANIFEST).open("a") as file:
        file.write('{"name": "half')
    summary = convert(source, LayoutWriter(), out)
    assert sorted(r["name"] for r in summary.skipped) == done
    assert whole(find_layout(out)) == whole(source)
    assert json.loads((out / MANIFEST).read_text().splitlines()[-1])["outputs"]


def test_a_bad_image_is_listed_and_the_others_are_converted(tiny_copy, tmp_path):
    folders = sorted((tiny_copy / "train").iterdir())
    path = folders[1] / "image.tif"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    source, out = find_layout(tiny_copy / "train"), tmp_path / "out"
    summary = convert(source, LayoutWriter(), out, jobs=2)
    assert len(summary.written) == 5
    assert "image.tif: truncated" in summary.failed[0]["error"]
    assert not (out / folders[1].name).exists()
    path.write_bytes(good)
    summary = convert(source, LayoutWriter(), out)
    assert (len(summary.written), len(summary.skipped)) == (1, 5)
    assert whole(find_layout(out)) == whole(source)


def test_the_manifest_says_where_everything_is_from(tmp_path):
    annotation_files.monusac(tmp_path / "in")
    convert(find_monusac(tmp_path / "in"), LayoutWriter(), tmp_path / "out")
    (record,) = records(tmp_path / "out")
    for source in record["sources"]:
        content = (tmp_path / "in" / source["file"]).read_bytes()
        assert source["sha256"] == hashlib.sha256(content).hexdigest()
        assert source["bytes"] == len(content)
    assert {s["file"] for s in record["sources"]} == {"a_1.xml", "a_1.tif"}
    assert record["found"] == record["written"] == {"Epithelial": 2, "Macrophage": 1}
    assert record["size"] == list(SIZE) and record["microns_per_pixel"] == 0.251


def test_patients_are_kept_by_barcode_or_slide(tmp_path):
    folder = tmp_path / "in" / "TCGA-5P-A9K0-01Z-00-DX1"
    annotation_files.monusac(folder)
    for file in folder.iterdir():
        shutil.copy(file, folder.with_name(f"slide_12{file.suffix}"))
    shutil.move(str(folder / "a_1.xml"), folder / "TCGA-XY-0001_1.xml")
    shutil.move(str(folder / "a_1.tif"), folder / "TCGA-XY-0001_1.tif")
    convert(find_monusac(tmp_path / "in"), LayoutWriter(), tmp_path / "out")
    names = ["TCGA-XY-0001_1", "slide_12"]
    result = patients_from_csv(tmp_path / "out" / "patients.csv", names)
    assert result == {"TCGA-XY-0001_1": "TCGA-XY-0001", "slide_12": "slide"}


@pytest.mark.parametrize("what", ["file", "folder", "image"])
def test_nothing_of_the_users_is_overwritten(tmp_path, what):
    annotation_files.layout(tmp_path / "in")
    source, out = find_layout(tmp_path / "in"), tmp_path / "out"
    mine = out
    if what == "folder":
        mine = out / "notes.txt"
    elif what == "image":
        out.mkdir()
        (out / MANIFEST).touch()
        mine = out / source.items[0].name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="was not made by this tool"):
        convert(source, LayoutWriter(), out)
    assert mine.read_text() == "mine"
    assert not list(tmp_path.rglob("*.mmcell-part"))


def test_the_work_folder_of_a_killed_run_is_removed(tmp_path):
    annotation_files.layout(tmp_path / "in")
    left = tmp_path / "out" / ".mmcell-part"
    (left / "a").mkdir(parents=True)
    (tmp_path / "out" / MANIFEST).touch()
    convert(find_layout(tmp_path / "in"), LayoutWriter(), tmp_path / "out")
    assert not left.exists()


def test_two_conversions_do_not_write_at_once(tmp_path):
    annotation_files.layout(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / MANIFEST).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another conversion"):
            convert(find_layout(tmp_path / "in"), LayoutWriter(), tmp_path / "out")


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    annotation_files.layout(tmp_path / "in")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(InputError, match="No space left"):
        convert(find_layout(tmp_path / "in"), LayoutWriter(), tmp_path / "out")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "image", "", "a\nb"])
def test_classes_cannot_name_files_elsewhere(tmp_path, name):
    source = cells((0, 0, 2, 2), classes=[name])
    summary = convert(source, LayoutWriter(), tmp_path / "out")
    assert "cannot be the name of a file" in summary.failed[0]["error"]
    assert {p.name for p in tmp_path.rglob("*")} == {"out", MANIFEST}


def test_all_classes_must_be_in_the_table(tmp_path):
    source = cells((0, 0, 2, 2), (5, 5, 2, 2), classes=["a", "b"])
    summary = convert(source, LayoutWriter(), tmp_path / "out", {"a": "class1"})
    assert "its class 'b' is not among" in summary.failed[0]["error"]
    summary = convert(
        source, LayoutWriter(), tmp_path / "out", {"a": "class1", "b": ""}
    )
    assert summary.written[0]["written"] == {"class1": 1}
    assert summary.written[0]["dropped"] == {"of class b": 1}


def test_images_in_arrays_cannot_be_named_by_coco(tmp_path):
    annotation_files.pannuke(tmp_path / "in")
    source = SOURCES["pannuke"][1](tmp_path / "in")
    summary = convert(source, CocoWriter(source.classes), tmp_path / "out")
    assert "Convert to the layout first" in summary.failed[0]["error"]
