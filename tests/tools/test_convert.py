"""The command: what a user types and reads."""

from __future__ import annotations

import json

import pytest

from custom.formats.conversion import MANIFEST
from custom.io.image import read_labels
from tests import annotation_files
from tests.annotation_files import SOURCES, image_scope

TOOL = "tools/data/convert.py"


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_a_command(run_tool, tmp_path, name):
    folder, out = tmp_path / "in", tmp_path / "out"
    source = name.split(",")[0]
    source = source if source not in ("mat", "pannuke", "conic") else "instance-maps"
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match=r"^error: .*none"):
        run_tool(TOOL, source, tmp_path / "none", out)
    SOURCES[name][0](folder)
    path = folder / ("coco.json" if source == "coco" else "")
    said = run_tool(TOOL, source, path, out, "--jobs", 1)
    assert f"{out}: " in said and MANIFEST in said
    assert list(out.glob("*/image.tif"))
    again = run_tool(TOOL, source, path, out, "--jobs", 1)
    assert "were there already" in again


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("layout", "a/class2.tif a/image.tif"),
        ("coco", "annotations.json parts/a.json"),
        ("coco-polygons", "annotations.json parts/a.json"),
        ("geojson", "a.geojson"),
        ("labels", "a.tif a_masks.tif"),
        ("png-masks", "a/images/a.png a/masks/a_00001.png"),
    ],
)
def test_every_target_has_its_files(run_tool, tmp_path, target, files):
    annotation_files.labels(tmp_path / "in")
    args = ("--to", target, "--classes", "nucleus=class2", "--jobs", 2)
    out = run_tool(TOOL, "labels", tmp_path / "in", tmp_path / "out", *args)
    assert "1 images, 3 " in out
    results = {
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file() and not p.stem.endswith(("00002", "00003"))
    }
    assert results == {*files.split(), MANIFEST}


def test_monusac_has_the_names_of_the_layout(run_tool, tmp_path):
    annotation_files.monusac(tmp_path / "in")
    square = [(1, 1), (6, 1), (6, 6), (1, 6)]
    layers = {"Neutrophil": [square, square[:2]], "Ambiguous": [square]}
    (tmp_path / "in" / "a_1.xml").write_text(image_scope(layers))
    out = run_tool(TOOL, "monusac", tmp_path / "in", tmp_path / "out")
    assert "1 images, 1 class3, 1 ignore" in out
    assert "left out: 1 an outline of 2 vertices" in out
    names = {p.name for p in (tmp_path / "out" / "a_1").iterdir()}
    assert names == {"image.tif", "class3.tif", "ignore.tif"}
    assert (tmp_path / "out" / "patients.csv").read_text() == "name,patient\na_1,a\n"


def test_bad_images_end_the_command_with_their_names(run_tool, tiny_copy, tmp_path):
    label = max((tiny_copy / "train").glob("*/class2.tif"))
    label.write_bytes(label.read_bytes()[:-9])
    with pytest.raises(SystemExit, match=r"(?s)1 of 6 images.*class2\.tif: truncated"):
        run_tool(TOOL, "layout", tiny_copy / "train", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/image.tif"))) == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [("nucleus", "not OLD=NEW"), ("=a", "not OLD=NEW"), ("a=../b", "not OLD=NEW")],
)
def test_bad_tables_of_classes_are_refused(run_tool, tmp_path, text, reason):
    annotation_files.labels(tmp_path / "in")
    with pytest.raises(SystemExit, match=reason):
        run_tool(TOOL, "labels", tmp_path / "in", tmp_path / "out", "--classes", text)
    assert not (tmp_path / "out").exists()


def test_images_may_lie_elsewhere(run_tool, tmp_path):
    annotation_files.geojson(tmp_path / "in")
    (tmp_path / "images" / "deep").mkdir(parents=True)
    image = tmp_path / "images" / "deep" / "a.png"
    (tmp_path / "in" / "a.png").rename(image)
    with pytest.raises(SystemExit, match="Name the folder of the images"):
        run_tool(TOOL, "geojson", tmp_path / "in", tmp_path / "out")
    table = "Tumor=class1,Immune cells=class2"
    args = ("--images", tmp_path / "images", "--classes", table)
    run_tool(TOOL, "geojson", tmp_path / "in", tmp_path / "out", *args)
    labels = read_labels(tmp_path / "out" / "a" / "class1.tif")
    assert labels.max() == 2
    record = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert record["options"]["from"] == "geojson"
    assert record["sources"][1]["file"] == image.as_posix()


# --- the real samples, by their known totals ---


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        (
            "monusac",
            "monusac_original",
            "3 images, 329 class1, 299 class2, 5 class3, 7 class4",
        ),
        ("monuseg", "monuseg_xml", "3 images, 1282 nucleus"),
        ("png-masks", "dsb2018/stage1_train", "8 images, 326 nucleus"),
    ],
)
def test_real_sources_have_their_known_totals(
    run_tool, shared_data, tmp_path, source, folder, expected
):
    out = run_tool(TOOL, source, shared_data / folder, tmp_path / "out")
    assert f"{tmp_path / 'out'}: {expected}\n" in out
