"""The audit's page and JSON, and what the command refuses."""

from __future__ import annotations

import json
import shutil

import pytest

TOOL = "tools/data/audit.py"


@pytest.fixture
def config(repo, tiny_root, tmp_path_factory, monkeypatch) -> str:
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_SPLIT", "random_67-33_seed1")
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    return str(repo / "configs/demo/maskrcnn_r18-slim.py")


def test_folder_with_a_split(run_tool, tiny_root, tmp_path):
    page, data = tmp_path / "new" / "audit.html", tmp_path / "audit.json"
    folder = tiny_root / "train"
    out = run_tool(TOOL, folder, "--split", "random_67-33", "-o", page, "--json", data)
    found = json.loads(data.read_text())
    assert sorted(image["name"] for image in found["images"]) == sorted(
        path.name for path in folder.iterdir()
    )
    subsets = [image["subset"] for image in found["images"]]
    assert (subsets.count("train"), subsets.count("val")) == (4, 2)
    assert found["max_detections"] == 100
    assert set(found["anchors"]) == {"best single scale", "best two scales"}
    assert f"{page}: 6 images" in out
    assert "anchor_generator=dict(scales=[" in out
    html = page.read_text()
    assert all(image["name"] in html for image in found["images"])
    assert "best single scale" in html
    assert "http://" not in html.split("<script>")[0]
    # A page of ours is written again, the JSON is not.
    run_tool(TOOL, folder, "-o", page)
    with pytest.raises(SystemExit, match=r"audit\.json: it exists already"):
        run_tool(TOOL, folder, "-o", page, "--json", data)


def test_config_gives_split_detections_and_anchors(run_tool, config, tmp_path):
    data = tmp_path / "audit.json"
    run_tool(TOOL, config, "-o", tmp_path / "audit.html", "--json", data)
    found = json.loads(data.read_text())
    assert found["max_detections"] == 1000
    assert found["anchors"]["this config"]["scales"] == [4.0]
    best = found["anchors"]["best single scale"]["mean"]
    assert best >= found["anchors"]["this config"]["mean"]
    assert {image["subset"] for image in found["images"]} == {"train", "val"}


def test_without_a_split_everything_is_for_training(run_tool, tiny_root, tmp_path):
    data = tmp_path / "audit.json"
    args = (tiny_root / "train", "-o", tmp_path / "audit.html", "--json", data)
    run_tool(TOOL, *args)
    subsets = {image["subset"] for image in json.loads(data.read_text())["images"]}
    assert subsets == {"train"}


def test_damaged_and_copied_images_are_on_the_page(run_tool, tiny_copy, tmp_path):
    folder = tiny_copy / "train"
    first, second, *_ = sorted(folder.iterdir())
    shutil.copytree(first, folder / "copy")
    (second / "image.tif").write_bytes(b"II*\0 and no more")
    table = tmp_path / "patients.csv"
    names = sorted(path.name for path in folder.iterdir())
    rows = [f"{name},p{i % 2}" for i, name in enumerate(names)]
    table.write_text("\n".join(["name,patient", *rows]))
    page, data = tmp_path / "audit.html", tmp_path / "audit.json"
    out = run_tool(TOOL, folder, "-o", page, "--json", data, "--patients", table)
    found = json.loads(data.read_text())["findings"]
    (unreadable,) = (f for f in found if f["kind"] == "unreadable")
    assert second.name in unreadable["text"]
    duplicates = [f for f in found if f["kind"] == "duplicate"]
    assert {first.name, "copy"} in [set(f["images"]) for f in duplicates]
    assert "1 Images that cannot be used" in out
    assert "Near-duplicates" in page.read_text()


def test_what_is_refused(run_tool, tiny_root, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    for args, reason in (
        ((tmp_path / "nothing",), "no config and no folder"),
        ((tmp_path, "-o", tmp_path / "a.html"), "lacks image folders"),
        ((tiny_root / "train", "-o", mine), "is not a page of this tool"),
        (
            (tiny_root / "train", "--split", "new", "-o", tmp_path / "a.html"),
            "no such split",
        ),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{reason}"):
            run_tool(TOOL, *args)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    assert mine.read_text() == "mine"


@pytest.mark.slow
def test_page_in_a_browser(run_tool, tiny_root, tmp_path):
    from tests.browser import browser, complaints, requests

    page = tmp_path / "audit.html"
    folder = tiny_root / "train"
    run_tool(TOOL, folder, "--split", "random_67-33", "-o", page)
    with browser(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        plots = chrome.execute_script(
            "return [...document.querySelectorAll('.plot')].map(p => p.data.length)"
        )
        assert len(plots) == 5 and all(plots)
        images = chrome.execute_script(
            "return Promise.all([...document.querySelectorAll('svg.thumb image')].map("
            "i => { const p = new Image(); p.src = i.href.baseVal; return p.decode()"
            ".then(() => p.naturalWidth) }))"
        )
        assert len(images) >= 6 and all(images)
        wide = chrome.execute_script(
            "return document.documentElement.scrollWidth - innerWidth"
        )
        assert wide <= 0
        chrome.find_element("id", "theme").click()
        assert complaints(chrome) == []
        assert requests(chrome) == [page.as_uri()]
