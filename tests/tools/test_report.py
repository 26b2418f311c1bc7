"""The page that explains a run, and the comparison of two."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from mmengine.config import Config
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from custom.datasets.splits import Split
from custom.errors import InputError
from custom.evaluation import Predictions
from custom.evaluation.predictions import ImagePredictions
from custom.workbench.analysis.analysis import compare
from custom.workbench.labelled import LabelledSet
from custom.workbench.report import pages
from custom.workbench.report.gallery import choose
from custom.workbench.report.page import chart, render, write_page
from custom.workbench.report.pages import analyse_run, report_page
from custom.workbench.report.run import read_run
from tests.browser import browser, complaints, prefer, requests, wait
from tests.conftest import REPO

TOOL = "tools/report.py"
DEMO = "configs/demo/maskrcnn_r18-slim.py"


def imagine(run: Path, dataset: LabelledSet, shift: int):
    """Write predictions that are the ground truth, moved, with every kind of error."""
    images = []
    for number, sample in enumerate(dataset.select(), 1):
        size, labels = (sample.masks.height, sample.masks.width), sample.labels.copy()
        masks = sample.masks.translate(size, shift)
        kept = np.arange(len(labels)) % 5 != 1  # the others are missed
        labels[::7] = (labels[::7] + 1) % len(dataset.classes)  # of another class
        rles = [rle for rle, keep in zip(masks.to_rle(), kept, strict=True) if keep]
        scores, boxes = np.linspace(0.99, 0.3, kept.sum()), masks.boxes()[kept]
        image = (number, sample.name, size, labels[kept], scores)
        images.append(ImagePredictions(*image, boxes.astype(float), rles))
    info = {"config": DEMO, "checkpoint": "x.pth", "split": None, "subset": "val"}
    path = run / "20260102_000000" / "predictions.json"
    Predictions(dataset.classes, images, info).save(path)


def make_run(
    run: Path,
    root: Path,
    split: Split,
    shift: int | None = 1,
    lr: float = 1e-3,
    classes: tuple[str, ...] | None = None,
) -> Path:
    """A run folder without the training; its predictions are off by ``shift`` pixels,
    or missing."""
    cfg = Config.fromfile(REPO / DEMO)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(root)
        if classes:
            loader.dataset.metainfo = {"classes": classes}
    cfg.test_dataloader = cfg.val_dataloader
    cfg.optim_wrapper.optimizer.lr = lr
    logs = run / "20260101_000000" / "vis_data"
    logs.mkdir(parents=True)
    cfg.dump(logs / "config.py")
    rows = [{"loss": 3 / step, "lr": lr, "step": step} for step in range(10, 310, 10)]
    rows.append({"coco/segm_mAP_50": 0.5, "coco/segm_mAP_50_class1": 0.4, "step": 300})
    (logs / "scalars.json").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    split.save(run / "split.json")
    record = {
        "command": ["tools/train.py", DEMO, "</script><script>alert(1)</script>"],
        "git": {"commit": "0123456789abcdef", "changed_files": []},
        "data_root": str(root),
    }
    (run / "run.json").write_text(json.dumps(record))
    if shift is not None:
        validation = {"split": str(run / "split.json"), "subset": "val"}
        dataset = {**cfg.val_dataloader.dataset, **validation}
        imagine(run, LabelledSet.from_config(dataset), shift)
    return run


def split_of(root: Path, first_val: int = 3) -> Split:
    names = sorted(path.name for path in (root / "train").iterdir())
    return Split(
        "tiny", "random", 0, tuple(names[:first_val]), tuple(names[first_val:])
    )


@pytest.fixture(scope="module")
def first(tiny_root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    return make_run(folder, tiny_root, split_of(tiny_root))


@pytest.fixture(scope="module")
def page(first) -> str:
    return report_page([read_run(first, 'a<b>&"', None)], 40)


def gallery_data(page: str) -> dict:
    (text,) = re.findall(r'id="gallery-data">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_page_shows_metrics_settings_origin_and_every_cell(page, first, tiny_root):
    data = gallery_data(page)
    assert {i["name"] for i in data["images"]} == set(split_of(tiny_root).val)
    predictions = json.loads(next(first.glob("*/predictions.json")).read_text())
    shown = [p for image in data["images"] for p in image["runs"][0]["predictions"]]
    assert len(shown) == len(predictions["annotations"]) > 5
    truths = [t for image in data["images"] for t in image["runs"][0]["truth"]]
    kinds = {data["outcomes"][outcome] for outcome, _ in truths}
    assert {"true", "missed", "wrong class"} <= kinds
    for label, score, iou, outcome, path in shown:
        assert 0 <= label < 4 and 0.05 <= score <= 1 and path.startswith("M")
        assert data["outcomes"][outcome] != "true" or iou >= 0.5
        assert (data["outcomes"][outcome] == "low score") == (score < 0.5)
    assert "MaskRCNN, ResNet-18" in page and "0123456789abcdef" in page
    _, analysis = analyse_run(read_run(first, "first", None))
    for key in ("AP50", "PQ", "AJI", "F1"):
        assert f"<span>{key}</span><b>{analysis.metrics[key]:.3f}</b>" in page
    # Three images are too few for an interval, and the page says so.
    reason = r"No interval of [^:]*F1[^:]*: 3 independent groups; an interval needs 5"
    assert re.findall(reason, page)


def test_page_asks_for_nothing_and_names_cannot_break_it(page):
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", without_scripts)
    assert "<title>a&lt;b&gt;&amp;&#34;</title>" in page
    assert "<script>alert" not in page and "a<b" not in page
    title = "</script><script>alert(1)</script>"
    figure = chart(go.Figure(layout={"title": {"text": title}}), "a chart")["figure"]
    assert "<" not in figure
    assert json.loads(figure)["layout"]["title"]["text"] == title


def test_a_short_run_says_which_score_it_reached(tiny_root, tmp_path):
    """Nothing reaches the threshold: the page has a sentence, and the slider starts
    where there is something to see."""
    run = make_run(tmp_path / "short", tiny_root, split_of(tiny_root))
    (path,) = run.glob("*/predictions.json")
    data = json.loads(path.read_text())
    for row in data["annotations"]:
        row["score"] /= 4
    path.write_text(json.dumps(data))
    page = report_page([read_run(run, "short", None)], 40)
    assert "No prediction reaches the score 0.5: the highest score is 0.25." in page
    (start,) = re.findall(r'id="least-score"[^>]* value="([\d.]+)"', page)
    images = gallery_data(page)["images"]
    shown = [p for i in images for p in i["runs"][0]["predictions"]]
    assert sum(p[1] >= float(start) for p in shown) > 5
    lower = report_page([read_run(run, "short", None)], 40, score_thr=0.1)
    assert "No prediction" not in lower


@pytest.mark.parametrize("count", [1, 3, 9])
def test_report_of_any_number_of_classes(count, tiny_copy, tmp_path):
    classes = tuple(f"kind{k}" for k in range(1, count + 1))
    for image in (tiny_copy / "train").iterdir():
        for k in range(1, 5):
            path = image / f"class{k}.tif"
            if path.exists() and k <= count:
                path.rename(image / f"kind{k}.tif")
            path.unlink(missing_ok=True)
    run = make_run(tmp_path / "run", tiny_copy, split_of(tiny_copy), classes=classes)
    page = report_page([read_run(run, "run", None)], 40)
    assert all(f">{name}</th>" in page for name in classes)
    assert f'data-hide="c{count - 1}"' in page


def test_run_without_predictions_has_curves_and_says_what_to_call(
    run_tool, tiny_root, tmp_path
):
    run = make_run(tmp_path / "run", tiny_root, split_of(tiny_root), shift=None)
    (run / "best_coco_segm_mAP_50_iter_300.pth").touch()
    # Predictions of test images cannot be evaluated.
    (run / "20260103_000000").mkdir()
    data = {"info": {"subset": "test"}, "images": [], "categories": []}
    path = run / "20260103_000000" / "predictions.json"
    path.write_text(json.dumps({**data, "annotations": []}))
    assert f"{run}/report.html: " in run_tool(TOOL, run)
    page = (run / "report.html").read_text()
    config = next(run.glob("*/vis_data/config.py"))
    assert f"python tools/test.py {config} {run}/best_coco" in page
    assert 'id="curves"' in page and 'id="gallery"' not in page


def test_only_a_page_of_a_tool_is_replaced(run_tool, tmp_path):
    out, mine = tmp_path / "page.html", tmp_path / "mine.html"
    for title in ("first", "second"):
        write_page(render("base.html.j2", title=title), out)
        assert title in out.read_text()
    mine.write_text("<p>mine</p>")
    with pytest.raises(InputError, match="not a page of this tool"):
        write_page(out.read_text(), mine)
    with pytest.raises(SystemExit, match="not a page of this tool"):  # before any work
        run_tool(TOOL, tmp_path / "missing", "-o", mine)
    assert mine.read_text() == "<p>mine</p>"


def test_comparison_corrects_the_p_values_and_shows_both_runs(tiny_root, tmp_path):
    """Six images: the second run is worse on all of them."""
    split = split_of(tiny_root, first_val=0)
    runs = [
        read_run(make_run(tmp_path / n, tiny_root, split, shift, lr), n, None)
        for n, shift, lr in (("near", 1, 1e-3), ("far", 4, 2e-3))
    ]
    analyses = [analyse_run(r)[1] for r in runs]
    (row,) = pages._pairs({r.name: a for r, a in zip(runs, analyses, strict=True)})
    differences = compare(*analyses)
    raw = np.array([d.p for d in differences.values()])
    known = ~np.isnan(raw)
    shown = [float(r[-1]) for r in row["rows"] if r[-1] != "–"]
    smallest = min(1, raw[known].min() * known.sum())
    assert min(shown) == pytest.approx(smallest, abs=5e-4)
    assert f"corrected for the {known.sum()} tests" in row["about"]
    page = report_page(runs, 40)
    data = gallery_data(page)
    assert data["runs"] == ["near", "far"]
    assert all(len(image["runs"]) == 2 for image in data["images"])
    assert "optim_wrapper.optimizer.lr</code>" in page and "far against near" in page
    rows = re.findall(r'<th scope="row">(AP50|PQ|AJI|F1)</th>(.*?)</tr>', page, re.S)
    changes = [re.findall(r'number">([+-]\d\.\d+) <small', row) for _, row in rows]
    assert sum(bool(c) for c in changes) == 4
    assert all(float(c[0]) < 0 for c in changes if c)


def test_runs_on_other_images_or_classes_are_not_compared(
    run_tool, tiny_root, first, tmp_path
):
    split, out = split_of(tiny_root), tmp_path / "page.html"
    swapped = Split("swapped", "random", 0, split.val, split.train)
    other = make_run(tmp_path / "other", tiny_root, swapped, shift=None)
    with pytest.raises(SystemExit, match=f"6 validation images.*{min(split.train)}"):
        run_tool(TOOL, first, other, "-o", out)
    third = make_run(
        *(tmp_path / "third", tiny_root, split, None),
        classes=("class1", "class2", "class3"),
    )
    with pytest.raises(SystemExit, match="its classes are class1, class2, class3,"):
        run_tool(TOOL, first, third, "-o", out)
    with pytest.raises(SystemExit, match="named twice"):
        run_tool(TOOL, first, first, "-o", out)
    assert not out.exists()


def test_few_of_many_images_are_the_worst_and_the_best():
    def run(*values):
        images = [SimpleNamespace(ap50=value) for value in values]
        return SimpleNamespace(images=images)

    nan = float("nan")
    values = (0.5, nan, 0.1, 0.9, 0.3, 0.7)
    assert choose([run(*values)], 6) == [2, 4, 0, 5, 3, 1]
    assert choose([run(*values)], 3) == [2, 4, 1]
    assert choose([run(*values), run(0.5, nan, 0.9, 0.2, 0.3, 0.7)], 2) == [4, 1]


# --- in a browser ---


@pytest.mark.slow
def test_comparison_works_in_a_browser(first, tiny_root, tmp_path):
    second = make_run(tmp_path / "second", tiny_root, split_of(tiny_root), shift=4)
    path = tmp_path / "comparison.html"
    runs = [read_run(run, run.name, None) for run in (first, second)]
    write_page(report_page(runs, 40), path)
    with browser(tmp_path / "profile") as chrome:
        prefer(chrome, "dark")
        chrome.get(path.as_uri())
        card = chrome.find_element("css selector", ".card")
        header = card.find_element("css selector", "header")
        place = "{block: 'center', behavior: 'instant'}"  # below the fixed controls
        chrome.execute_script(f"arguments[0].scrollIntoView({place})", header)
        wait(lambda: card.find_elements("css selector", ".stage path"))
        check_toggles(chrome)
        check_zoom(chrome, card)
        check_themes(chrome)

        def names() -> list[str]:
            return [h.text for h in chrome.find_elements("css selector", ".card h3")]

        ordered = sorted(names())
        chrome.find_element("id", "order").send_keys("name")
        wait(lambda: names() == ordered)
        assert complaints(chrome) == []
        assert requests(chrome) == [path.as_uri()]


def check_toggles(chrome) -> None:
    """By pointer and by keyboard; outlines have the colour of their outcome."""

    def visible(selector: str) -> int:
        return chrome.execute_script(
            "return [...document.querySelectorAll(arguments[0])].filter("
            "n => getComputedStyle(n).display !== 'none').length",
            selector,
        )

    for name, selector in (("truth", ".stage .truth"), ("predictions", ".prediction")):
        box = chrome.find_element("id", f"show-{name}")
        assert visible(selector)
        box.click()
        assert visible(selector) == 0
        box.send_keys(Keys.SPACE)
        assert visible(selector)
    chrome.find_element("css selector", "[data-hide=c0]").click()
    assert visible(".stage .c0") == 0 and visible(".stage .c1")
    chrome.find_element("css selector", "[data-hide=c0]").click()
    chrome.find_element("css selector", "[name=colour][value=outcome]").click()
    strokes = "return [...document.querySelectorAll('.prediction')].map("
    strokes += "n => getComputedStyle(n).stroke)"
    assert "rgb(255, 255, 255)" in chrome.execute_script(strokes)  # true


def check_zoom(chrome, card) -> None:
    """By button, key and dragging, of both runs alike; a line under the pointer."""
    stages = card.find_elements("css selector", ".stage")

    def boxes() -> list[list[float]]:
        svgs = [stage.find_element("css selector", "svg") for stage in stages]
        texts = [svg.get_dom_attribute("viewBox") for svg in svgs]
        return [[float(value) for value in text.split()] for text in texts]

    whole = boxes()
    card.find_element("css selector", ".tools [title='Zoom in']").click()
    nearer = boxes()
    assert nearer[0][2] == pytest.approx(whole[0][2] / 1.5, abs=0.1)
    ActionChains(chrome).drag_and_drop_by_offset(stages[1], 40, 20).perform()
    assert boxes()[0] == boxes()[1] and boxes()[0][0] < nearer[0][0]
    stages[0].send_keys("0")
    assert boxes() == whole
    cell = card.find_element("css selector", ".stage .prediction")
    ActionChains(chrome).move_to_element(cell).perform()
    tip = chrome.find_element("id", "tip")
    wait(tip.is_displayed)
    assert re.search(r"prediction: class\d · score \d\.\d\d", tip.text)


def check_themes(chrome) -> None:
    """Light, dark and paper."""

    def ink_of_charts() -> str:
        return chrome.execute_script(
            "return getComputedStyle(document.querySelector('.plot .xtitle')).fill"
        )

    on_dark = ink_of_charts()
    prefer(chrome, "light")
    wait(lambda: ink_of_charts() != on_dark)
    chrome.execute_script("document.getElementById('theme').click()")
    assert ink_of_charts() == on_dark
    assert len(chrome.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 100_000
