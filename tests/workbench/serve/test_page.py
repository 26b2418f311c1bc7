"""The page in a real browser, against a real server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from custom.workbench.serve import Limits
from tests.browser import browser, complaints, prefer, requests
from tests.workbench.serve.rectangles import RectangleNetwork, as_png, draw, serving

LIMITS = Limits(upload_bytes=200_000, pixels=100_000)
CELLS = [
    (10, 10, 20, 30, 0, 0.9),
    (50, 10, 10, 12, 0, 0.4),
    (100, 50, 16, 16, 1, 0.8),
    (150, 200, 30, 20, 2, 0.6),
]


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


def wait(condition, seconds: float = 30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


def image(folder: Path, name: str = "cells.png", cells=CELLS, size=(200, 300)) -> Path:
    path = folder / name
    path.write_bytes(as_png(draw(cells, size)))
    return path


def choose(page, path: Path) -> None:
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


def test_threshold_and_classes_act_without_the_network(page, network, tmp_path):
    requests(page)
    choose(page, image(tmp_path))
    wait(lambda: shown(page) == 3)
    assert counts(page) == ["1", "1", "1", "3"]
    assert page.find_element("id", "name").text == "cells.png"
    asked = [address.rsplit("/", 1)[1] for address in requests(page)]
    assert asked == ["results", "image"]

    slide(page, 0.3)
    assert shown(page) == 4 and counts(page) == ["2", "1", "1", "4"]
    slide(page, 0.85)
    assert shown(page) == 1 and counts(page) == ["1", "0", "0", "1"]
    slider = page.find_element("id", "score")
    slider.send_keys(Keys.HOME)
    assert shown(page) == 4
    page.find_element("id", "class-0").click()
    assert shown(page) == 2 and counts(page) == ["2", "1", "1", "2"]
    slide(page, 0.7)
    assert shown(page) == 1
    page.find_element("id", "contours").click()
    assert shown(page) == 0
    page.find_element("id", "contours").click()
    assert network.calls == 1 and requests(page) == []

    # What is downloaded is what is shown.
    coco = json.loads(fetched(page, "coco"))
    assert [a["category_id"] for a in coco["annotations"]] == [2]
    page.find_element("id", "class-0").click()
    slide(page, 0)
    assert len(json.loads(fetched(page, "geojson"))["features"]) == 4
    assert network.calls == 1
    assert complaints(page) == []


def test_a_typed_pixel_size_gives_densities_without_the_network(
    page, network, tmp_path
):
    choose(page, image(tmp_path))
    wait(lambda: shown(page) == 3)
    density = page.find_element("id", "total-density")
    assert not density.is_displayed()
    page.find_element("id", "mpp").send_keys("0.5")
    # 3 cells in 300 x 200 pixels of 0.5 µm.
    assert density.text == "200"
    head, row = (line.split(",") for line in fetched(page, "csv").splitlines()[:2])
    assert float(row[head.index("area_um2")]) == float(row[head.index("area")]) / 4
    choose(page, image(tmp_path, "next.png"))
    wait(lambda: page.find_element("id", "name").text == "next.png")
    assert density.text == "200" and network.calls == 2
    assert complaints(page) == []


def test_drop_replaces_the_image_and_the_choice_stays(page, network, tmp_path):
    choose(page, image(tmp_path))
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
    assert network.calls == 2
    assert page.find_element("id", "model").text.startswith("<i>stub</i> · red, ")
    assert complaints(page) == []


def test_errors_are_said_and_the_page_goes_on(page, network, tmp_path):
    def error() -> str:
        return page.find_element("id", "error").text

    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    choose(page, bad)
    wait(lambda: "bad.png: not a readable image" in error())
    choose(page, image(tmp_path, "wide.png", [], (300, 400)))
    wait(lambda: "300x400 pixels are more than" in error())
    large = tmp_path / "large.png"
    large.write_bytes(bytes(LIMITS.upload_bytes + 1))
    choose(page, large)
    wait(lambda: "larger than" in error())
    (tmp_path / "notes.txt").write_text("text")
    choose(page, tmp_path / "notes.txt")
    wait(lambda: "not an image" in error())
    choose(page, image(tmp_path))
    wait(lambda: shown(page) == 3)
    assert error() == "" and network.calls == 1


def test_zoom_tip_and_keyboard(page, tmp_path):
    choose(page, image(tmp_path))
    wait(lambda: shown(page) == 3)
    stage = page.find_element("css selector", "#image .stage")

    def box() -> list[float]:
        text = page.execute_script(
            "return document.querySelector('#image svg').getAttribute('viewBox')"
        )
        return [float(value) for value in text.split()]

    assert box() == [0, 0, 300, 200]
    page.find_element("css selector", "[title='Zoom in']").click()
    assert box()[2] == 200
    stage.send_keys("0")
    assert box() == [0, 0, 300, 200]
    (cell,) = page.find_elements("css selector", "#image g:nth-of-type(2) path")
    ActionChains(page).move_to_element(cell).perform()
    wait(lambda: page.find_element("id", "tip").text == "green · score 0.80 · 256 px")


def test_light_and_dark_differ_and_fit_a_telephone(page, tmp_path):
    choose(page, image(tmp_path))
    wait(lambda: shown(page) == 3)
    colours = []
    for scheme in ("light", "dark"):
        prefer(page, scheme)
        colours.append(
            page.execute_script(
                "return getComputedStyle(document.body).backgroundColor"
            )
        )
    assert colours == ["rgb(255, 255, 255)", "rgb(21, 24, 28)"]
    size = page.get_window_size()
    try:
        page.set_window_size(500, 800)
        wide = "return document.documentElement.scrollWidth <= innerWidth"
        assert page.execute_script(wide)
    finally:
        page.set_window_size(size["width"], size["height"])
