"""The audit's page and list of findings, and what the command refuses."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.browser import browser, complaints, requests

TOOL = "tools/data/audit.py"


def test_folder_with_damaged_and_copied_images(run_tool, tiny_copy, tmp_path):
    folder = tiny_copy / "train"
    first, second, *_ = sorted(folder.iterdir())
    shutil.copytree(first, folder / "copy")
    (second / "image.tif").write_bytes(b"II*\0 and no more")
    table = tmp_path / "patients.csv"
    names = sorted(path.name for path in folder.iterdir())
    rows = [f"{name},p{i % 2}" for i, name in enumerate(names)]
    table.write_text("\n".join(["name,patient", *rows]))
    page, data = tmp_path / "new" / "audit.html", tmp_path / "audit.json"
    args = (folder, "--split", "random_67-33", "-o", page, "--patients", table)
    out = run_tool(TOOL, *args, "--json", data)
    suspicions = json.loads(data.read_text())["findings"]
    (unreadable,) = (f for f in suspicions if f["kind"] == "unreadable")
    assert second.name in unreadable["text"]
    duplicates = [f for f in suspicions if f["kind"] == "duplicate"]
    assert {first.name, "copy"} in [set(f["images"]) for f in duplicates]
    assert {"p0", "p1"} >= {f["text"][:2] for f in suspicions if f["kind"] == "patient"}
    assert "1 Images that cannot be used" in out and f"{page}: 6 images" in out
    html = page.read_text()
    assert all(name in html for name in (*names, "Near-duplicates"))
    assert "http://" not in html.split("<script>")[0]
    # A page of ours is written again, the JSON is not.
    run_tool(TOOL, *args)
    with pytest.raises(SystemExit, match=r"audit\.json: it exists already"):
        run_tool(TOOL, *args, "--json", data)


def test_config_gives_the_split_and_the_number_of_detections(
    run_tool, repo, tiny_root, tmp_path, monkeypatch
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.setenv("CELL_SPLIT", "random_67-33_seed1")
    page, data = tmp_path / "audit.html", tmp_path / "audit.json"
    config = repo / "configs/demo/maskrcnn_r18-slim.py"
    few = "model = dict(test_cfg=dict(rcnn=dict(max_per_img=1)))"
    (tmp_path / "few.py").write_text(f"_base_ = {str(config)!r}\n{few}")
    run_tool(TOOL, tmp_path / "few.py", "-o", page, "--json", data)
    html = page.read_text()
    assert "4 train, 2 val" in html
    texts = [f["text"] for f in json.loads(data.read_text())["findings"]]
    assert any("at most 1 detections" in text for text in texts)


def test_what_is_refused(run_tool, tiny_root, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    out = ("-o", tmp_path / "a.html")
    for args, reason in (
        ((tmp_path / "nothing",), "neither a config nor a folder"),
        ((tmp_path, *out), "lacks image folders"),
        ((tiny_root / "train", "-o", mine), "is not a page of this tool"),
        ((tiny_root / "train", "--split", "new", *out), "no such split"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{reason}"):
            run_tool(TOOL, *args)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    assert mine.read_text() == "mine"


@pytest.mark.slow
def test_page_in_a_browser(run_tool, tiny_root, tmp_path):
    page = tmp_path / "audit.html"
    run_tool(TOOL, tiny_root / "train", "--split", "random_67-33", "-o", page)
    with browser(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        plots = "[...document.querySelectorAll('.plot')].map(p => p.data.length)"
        assert chrome.execute_script(f"return {plots}") == [4, 1]
        images = chrome.execute_script(
            "return Promise.all([...document.querySelectorAll('svg.thumb image')].map("
            "i => { const p = new Image(); p.src = i.href.baseVal; return p.decode()"
            ".then(() => p.naturalWidth) }))"
        )
        assert len(images) >= 6 and all(images)
        wide = "return document.documentElement.scrollWidth - innerWidth"
        assert chrome.execute_script(wide) <= 0
        chrome.find_element("id", "theme").click()
        assert complaints(chrome) == []
        assert requests(chrome) == [page.as_uri()]
