"""The page in a real browser, against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains

from custom.workbench.serve import Limits
from tests.browser import browser, complaints, requests, wait
from tests.workbench.serve.rectangles import (
    CELLS,
    RectangleNetwork,
    as_png,
    draw,
    serving,
)

LIMITS = Limits(upload_bytes=200_000, pixels=100_000)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chrome")) as chrome:
        yield chrome


@pytest.fixture
def network():
    return RectangleNetwork()


@pytest.fixture
def page(network, chrome):
    with serving(network, LIMITS, title="<i>stub</i>") as port:
        chrome.get(f"http://127.0.0.1:{port}/")
        wait(lambda: chrome.find_elements("css selector", "#classes tr"))
        yield chrome
        chrome.get("about:blank")


def choose(page, folder: Path, name: str, data: bytes | None = None) -> None:
    """Choose a file in the page's dialog."""
    path = folder / name
    path.write_bytes(as_png(draw(CELLS)) if data is None else data)
    page.find_element("id", "file").send_keys(str(path))


def shown(page) -> int:
    """Contours that one sees."""
    return page.execute_script(
        "return [...document.querySelectorAll('#image path')]"
        ".filter(n => n.getBoundingClientRect().width > 0).length"
    )


def counts(page) -> list[str]:
    cells = page.find_elements("css selector", "#classes td.number:not(.density)")
    return [cell.text for cell in (*cells, page.find_element("id", "total"))]


def slide(page, value: float) -> None:
    page.execute_script(
        "const s = document.getElementById('score'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input', {bubbles: true}))",
        value,
    )


def fetched(page, kind: str) -> str:
    """What the link of a download gives."""
    return page.execute_async_script(
        "const done = arguments[1];"
        "fetch(document.getElementById(`download-${arguments[0]}`).href)"
        ".then(r => r.text()).then(done)",
        kind,
    )


@pytest.mark.slow
def test_threshold_classes_and_pixel_size_act_without_the_network(
    page, network, tmp_path
):
    requests(page)
    choose(page, tmp_path, "cells.png")
    wait(lambda: shown(page) == 3)
    assert counts(page) == ["1", "1", "1", "3"]
    asked = [address.rsplit("/", 1)[1] for address in requests(page)]
    assert asked == ["results", "image"]
    for least, expected in ((0.3, ["2", "1", "1", "4"]), (0.85, ["1", "0", "0", "1"])):
        slide(page, least)
        assert shown(page) == int(expected[-1]) and counts(page) == expected
    slide(page, 0)
    page.find_element("id", "class-0").click()
    assert shown(page) == 2 and counts(page) == ["2", "1", "1", "2"]
    page.find_element("id", "contours").click()
    assert shown(page) == 0
    assert network.calls == 1 and requests(page) == []
    coco = json.loads(fetched(page, "coco"))  # what is shown
    assert [a["category_id"] for a in coco["annotations"]] == [2, 3]
    density = page.find_element("id", "total-density")
    assert not density.is_displayed()
    page.find_element("id", "mpp").send_keys("0.5")
    assert density.text == "133"  # 2 cells in 300 x 200 pixels of 0.5 µm
    head, row = (line.split(",") for line in fetched(page, "csv").splitlines()[:2])
    assert float(row[head.index("area_um2")]) == float(row[head.index("area")]) / 4
    assert network.calls == 1 and complaints(page) == []


@pytest.mark.slow
def test_a_dropped_image_replaces_the_first_and_can_be_zoomed(page, network, tmp_path):
    choose(page, tmp_path, "cells.png")
    wait(lambda: shown(page) == 3)
    page.find_element("id", "class-0").click()
    data = list(as_png(draw([(5, 5, 20, 20, 1, 0.9), (60, 60, 20, 20, 0, 0.9)])))
    page.execute_script(
        "const transfer = new DataTransfer();"
        "transfer.items.add(new File([new Uint8Array(arguments[0])], 'β <b>.png'));"
        "document.body.dispatchEvent("
        "new DragEvent('drop', {dataTransfer: transfer, bubbles: true}))",
        data,
    )
    wait(lambda: page.find_element("id", "name").text == "β <b>.png")
    assert shown(page) == 1 and counts(page) == ["1", "1", "0", "1"]
    assert page.find_element("id", "model").text.startswith("<i>stub</i> · red, ")

    def box() -> list[float]:
        svg = page.find_element("css selector", "#image svg")
        return [float(value) for value in svg.get_dom_attribute("viewBox").split()]

    page.find_element("css selector", "[title='Zoom in']").click()
    assert box()[2] == 200
    page.find_element("css selector", "#image .stage").send_keys("0")
    assert box() == [0, 0, 300, 200]
    cell = page.find_element("css selector", "#image g:nth-of-type(2) path")
    ActionChains(page).move_to_element(cell).perform()
    wait(lambda: page.find_element("id", "tip").text == "green · score 0.90 · 400 px")
    assert network.calls == 2 and complaints(page) == []


@pytest.mark.slow
def test_errors_are_said_and_the_page_still_works(page, network, tmp_path):
    for name, data, words in (
        ("bad.png", b"no image", "bad.png: not a readable image"),
        ("wide.png", as_png(draw([], (300, 400))), "300x400 pixels are more than"),
        ("large.png", bytes(LIMITS.upload_bytes + 1), "larger than"),
        ("notes.txt", b"text", "not an image"),
    ):
        choose(page, tmp_path, name, data)
        wait(lambda words=words: words in page.find_element("id", "error").text)
    choose(page, tmp_path, "cells.png")
    wait(lambda: shown(page) == 3)
    assert page.find_element("id", "error").text == "" and network.calls == 1
