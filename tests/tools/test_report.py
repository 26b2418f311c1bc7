"""The page that explains a run, and the comparison of two."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from custom.datasets import CellDataset
from custom.datasets.splits import Split
from custom.errors import InputError
from custom.evaluation import Predictions
from custom.evaluation.predictions import ImagePredictions
from custom.transforms.loading import read_label_masks
from custom.workbench.analysis.analysis import compare
from custom.workbench.report import chart, pages, render, write_page
from custom.workbench.report.pages import analyse_run, report_page
from custom.workbench.report.run import read_run
from tests.browser import browser, complaints, prefer, requests

TOOL = "tools/report.py"
DEMO = "configs/demo/maskrcnn_r18-slim.py"


def imagine(
    root: Path, names: tuple[str, ...], path: Path, shift: int, classes: tuple | None
) -> None:
    """Write predictions that are the ground truth, moved, with every kind of error."""
    init_default_scope("mmdet")
    split = Split("own", "own", 0, (), names)
    split.save(path.parent / "own.json")
    dataset = CellDataset(
        data_root=str(root),
        data_prefix={"img": "train"},
        split=str(path.parent / "own.json"),
        subset="val",
        pipeline=[],
        test_mode=True,
        metainfo=classes and {"classes": classes},
    )
    count = len(dataset.metainfo["classes"])
    images = []
    for i in range(len(dataset)):
        entry = dataset.get_data_info(i)
        size = entry["height"], entry["width"]
        masks, labels = read_label_masks(entry["label_files"], size)
        masks = masks.translate(size, shift)
        labels = labels.copy()
        kept = np.arange(len(labels)) % 5 != 1  # these are missed
        labels[::7] = (labels[::7] + 1) % count  # these are of another class
        images.append(
            ImagePredictions(
                entry["img_id"],
                entry["name"],
                size,
                labels[kept],
                np.linspace(0.99, 0.3, kept.sum()),
                masks.boxes()[kept].astype(float),
                [rle for rle, keep in zip(masks.to_rle(), kept, strict=True) if keep],
            )
        )
    info = {"config": DEMO, "checkpoint": "x.pth", "split": None, "subset": "val"}
    Predictions(dataset.metainfo["classes"], images, info).save(path)


def make_run(
    folder: Path,
    repo: Path,
    root: Path,
    split: Split,
    shift: int | None = 1,
    lr: float = 1e-3,
    command: str = DEMO,
    classes: tuple[str, ...] | None = None,
) -> Path:
    """A run folder without the hours of training.

    Args:
        folder: What to make.
        repo: The checkout.
        root: The data.
        split: The run's split.
        shift: Pixels by which the predictions are off; None for no predictions.
        lr: Learning rate in its config.
        command: The config in its command line.
        classes: Of its data, if not those of the config.
    """
    cfg = Config.fromfile(repo / DEMO)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(root)
        if classes:
            loader.dataset.metainfo = {"classes": classes}
    cfg.test_dataloader = cfg.val_dataloader
    cfg.optim_wrapper.optimizer.lr = lr
    logs = folder / "20260101_000000" / "vis_data"
    logs.mkdir(parents=True)
    cfg.dump(logs / "config.py")
    rows = []
    for step in range(10, 310, 10):
        loss = 3 / step**0.3
        rows.append({"loss": loss, "loss_cls": loss / 2, "lr": lr, "step": step})
        rows[-1].update(time=1.0, iter=step, grad_norm=5.0)
        if step % 100 == 0:
            row = {"coco/segm_mAP_50": step / 600, "coco/segm_mAP": step / 1200}
            row.update({"coco/segm_mAP_50_class1": 0.5, "val/loss": loss + 0.2})
            rows.append({**row, "step": step})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (logs / "scalars.json").write_text(text)
    split.save(folder / "split.json")
    record = {
        "started": "2026-01-01T00:00:00+00:00",
        "command": ["tools/train.py", str(command)],
        "git": {"commit": "0123456789abcdef", "changed_files": []},
        "packages": {"torch": "2.13.0"},
        "data_root": str(root),
    }
    (folder / "run.json").write_text(json.dumps(record))
    if shift is not None:
        tested = folder / "20260102_000000"
        tested.mkdir()
        imagine(root, split.val, tested / "predictions.json", shift, classes)
    return folder


@pytest.fixture(scope="module")
def split(tiny_root) -> Split:
    names = sorted(path.name for path in (tiny_root / "train").iterdir())
    return Split("tiny", "random", 0, tuple(names[:3]), tuple(names[3:]))


@pytest.fixture(scope="module")
def tiny_run(repo, tiny_root, split, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first", repo, tiny_root, split)


@pytest.fixture(scope="module")
def other_run(repo, tiny_root, split, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "second"
    return make_run(folder, repo, tiny_root, split, shift=4, lr=2e-3)


def gallery_data(page: str) -> dict:
    (text,) = re.findall(r'id="gallery-data">(.*?)</script>', page, re.S)
    return json.loads(text)


@pytest.fixture(scope="module")
def page(tiny_run) -> str:
    """The page of ``tiny_run``."""
    return report_page([read_run(tiny_run, "first", None)], 40)


def test_page_shows_settings_origin_and_every_cell(page, tiny_run, split):
    data = gallery_data(page)
    assert {image["name"] for image in data["images"]} == set(split.val)
    predictions = json.loads(next(tiny_run.glob("*/predictions.json")).read_text())
    sure = [a for a in predictions["annotations"] if a["score"] >= 0.5]
    shown = [p for image in data["images"] for p in image["runs"][0]["predictions"]]
    assert len([p for p in shown if p[1] >= 0.5]) == len(sure) > 5
    assert len(shown) == len(predictions["annotations"])  # the slider shows the rest
    truths = [t for image in data["images"] for t in image["runs"][0]["truth"]]
    kinds = {data["outcomes"][outcome] for outcome, _ in truths}
    assert {"true", "missed", "wrong class"} <= kinds
    for label, score, iou, outcome, path in shown:
        assert 0 <= label < 4 and 0.05 <= score <= 1 and path.startswith("M")
        assert data["outcomes"][outcome] != "true" or iou >= 0.5
        assert (data["outcomes"][outcome] == "low score") == (score < 0.5)
    assert "ResNet-18" in page and "0123456789abcdef" in page
    assert "3 images of patients unknown" in page


def test_metrics_of_the_page_are_those_of_the_analysis(page, tiny_run):
    _, analysis = analyse_run(read_run(tiny_run, "first", None))
    for key in ("AP50", "PQ", "AJI", "F1"):
        assert f"<span>{key}</span><b>{analysis.metrics[key]:.3f}</b>" in page
    # Three images are too few for an interval, and the page says so.
    assert (
        "F1"
        in re.findall(
            r"No interval of ([^:]*): 3 independent groups; an interval needs 5", page
        )[0]
    )


def rescore(run: Path, function) -> None:
    """Change the scores of a run's predictions."""
    (path,) = run.glob("*/predictions.json")
    data = json.loads(path.read_text())
    for row in data["annotations"]:
        row["score"] = function(row["score"])
    path.write_text(json.dumps(data))


def test_a_short_run_says_which_score_it_reached(repo, tiny_root, split, tmp_path):
    """Nothing reaches the threshold: the page has a sentence, and the slider starts
    where there is something to see."""
    run = make_run(tmp_path / "short", repo, tiny_root, split)
    rescore(run, lambda score: score / 4)
    page = report_page([read_run(run, "short", None)], 40)
    assert "No prediction reaches the score 0.5: the highest score is 0.25." in page
    (start,) = re.findall(r'id="least-score"[^>]* value="([\d.]+)"', page)
    shown = [
        p for i in gallery_data(page)["images"] for p in i["runs"][0]["predictions"]
    ]
    assert sum(p[1] >= float(start) for p in shown) > 5
    lower = report_page([read_run(run, "short", None)], 40, score_thr=0.1)
    assert "No prediction" not in lower


@pytest.mark.parametrize("count", [1, 3, 9])
def test_report_of_any_number_of_classes(count, repo, tiny_copy, tmp_path):
    classes = tuple(f"kind{k}" for k in range(1, count + 1))
    for image in (tiny_copy / "train").iterdir():
        for k in range(1, 5):
            path = image / f"class{k}.tif"
            if path.exists() and k <= count:
                path.rename(image / f"kind{k}.tif")
            path.unlink(missing_ok=True)
    names = sorted(path.name for path in (tiny_copy / "train").iterdir())
    split = Split("tiny", "random", 0, tuple(names[:3]), tuple(names[3:]))
    run = make_run(tmp_path / "run", repo, tiny_copy, split, classes=classes)
    page = report_page([read_run(run, "run", None)], 40)
    assert all(f">{name}</th>" in page for name in classes)
    assert f'data-hide="c{count - 1}"' in page


def test_page_asks_for_nothing(page):
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", without_scripts)


def test_parent_config_and_what_differs(run_tool, repo, tiny_root, split, tmp_path):
    config = tmp_path / "child.py"
    config.write_text(f"_base_ = {str(repo / DEMO)!r}\n")
    run = make_run(
        tmp_path / "run", repo, tiny_root, split, None, lr=0.0123, command=str(config)
    )
    run_tool(TOOL, run)
    page = html.unescape((run / "report.html").read_text())
    assert f"{config} inherits from {repo / DEMO}" in page
    (row,) = re.findall(r"<tr>\s*<th[^>]*><code>optimizer.lr.*?</tr>", page, re.S)
    assert re.findall(r"<td><code>(.*?)</code>", row) == ["0.001", "0.0123"]


def test_run_without_predictions_has_curves_and_says_what_to_call(
    run_tool, repo, tiny_root, split, tmp_path
):
    run = make_run(tmp_path / "run", repo, tiny_root, split, shift=None)
    (run / "best_coco_segm_mAP_50_iter_300.pth").touch()
    # Those of the test images are no predictions to be evaluated.
    later = run / "20260103_000000"
    later.mkdir()
    data = {"info": {"subset": "test"}, "images": [], "categories": []}
    (later / "predictions.json").write_text(json.dumps({**data, "annotations": []}))
    said = run_tool(TOOL, run)
    assert f"{run}/report.html: " in said
    page = (run / "report.html").read_text()
    config = next(run.glob("*/vis_data/config.py"))
    assert f"python tools/test.py {config} {run}/best_coco" in page
    assert 'id="curves"' in page and 'id="gallery"' not in page


def test_only_a_page_of_its_own_is_replaced(tmp_path):
    out = tmp_path / "page.html"
    first = render("base.html.j2", title="first")
    write_page(first, out)
    write_page(render("base.html.j2", title="second"), out)
    assert "second" in out.read_text()
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(InputError, match="not a page of this tool"):
        write_page(first, mine)
    assert mine.read_text() == "<p>mine</p>"
    assert len(list(tmp_path.iterdir())) == 2


def test_foreign_file_is_refused_before_work(run_tool, tiny_run, tmp_path):
    out = tmp_path / "mine.html"
    out.write_text("<p>mine</p>")
    with pytest.raises(SystemExit, match="not a page of this tool"):
        run_tool(TOOL, tiny_run / "missing", "-o", out)


def test_names_cannot_break_the_page(run_tool, repo, tiny_root, split, tmp_path):
    name = 'a<b>&"'
    run = make_run(tmp_path / name, repo, tiny_root, split)
    record = json.loads((run / "run.json").read_text())
    record["command"].append("</script><script>alert(1)</script>")
    (run / "run.json").write_text(json.dumps(record))
    run_tool(TOOL, run)
    page = (run / "report.html").read_text()
    assert "<title>a&lt;b&gt;&amp;&#34;</title>" in page
    assert "<script>alert" not in page and "a<b" not in page
    title = "</script><script>alert(1)</script>"
    figure = chart(go.Figure(layout={"title": {"text": title}}), "a chart").figure
    assert "<" not in figure
    assert json.loads(figure)["layout"]["title"]["text"] == title


def test_comparison_corrects_the_p_values_of_the_page(repo, tiny_root, tmp_path):
    """Six images: the second run is worse on all of them."""
    names = sorted(path.name for path in (tiny_root / "train").iterdir())
    split = Split("six", "own", 0, (), tuple(names))
    runs = [
        read_run(make_run(tmp_path / n, repo, tiny_root, split, shift), n, None)
        for n, shift in (("near", 1), ("far", 4))
    ]
    (row,) = pages._pairs({r.name: analyse_run(r)[1] for r in runs})
    differences = compare(*(analyse_run(r)[1] for r in runs))
    raw = np.array([d.p for d in differences.values()])
    known = ~np.isnan(raw)
    shown = [r[-1] for r in row["rows"]]
    smallest = raw[known].min() * known.sum()
    assert min(float(p) for p in shown if p != "–") == pytest.approx(
        min(1, smallest), abs=5e-4
    )
    assert f"corrected for the {known.sum()} tests" in row["about"]


def test_comparison_shows_differences_and_both_runs(
    run_tool, tiny_run, other_run, tmp_path
):
    out = tmp_path / "page.html"
    run_tool(TOOL, tiny_run, other_run, "-o", out)
    page = out.read_text()
    data = gallery_data(page)
    assert data["runs"] == ["first", "second"]
    assert all(len(image["runs"]) == 2 for image in data["images"])
    assert "<code>optimizer.lr</code>" in page and "second against first" in page
    # The second is further off: all its figures are lower.
    rows = re.findall(r'<th scope="row">(AP50|PQ|AJI|F1)</th>(.*?)</tr>', page, re.S)
    changes = [re.findall(r'number">([+-]\d\.\d+) <small', row) for _, row in rows]
    assert sum(bool(c) for c in changes) == 4
    assert all(float(c[0]) < 0 for c in changes if c)


def test_runs_on_other_images_or_classes_are_not_compared(
    run_tool, repo, tiny_root, tiny_run, split, tmp_path
):
    swapped = Split("swapped", "random", 0, split.val, split.train)
    other = make_run(tmp_path / "other", repo, tiny_root, swapped, shift=None)
    out = tmp_path / "page.html"
    with pytest.raises(SystemExit, match=f"6 validation images.*{min(split.train)}"):
        run_tool(TOOL, tiny_run, other, "-o", out)
    third = make_run(tmp_path / "third", repo, tiny_root, split, shift=None)
    config = next(third.glob("*/vis_data/config.py"))
    cfg = Config.fromfile(config)
    classes = ("class1", "class2", "class3")
    cfg.val_dataloader.dataset.metainfo = {"classes": classes}
    cfg.dump(config)
    with pytest.raises(SystemExit, match="its classes are class1, class2, class3,"):
        run_tool(TOOL, tiny_run, third, "-o", out)
    with pytest.raises(SystemExit, match="named twice"):
        run_tool(TOOL, tiny_run, tiny_run, "-o", out)
    assert not out.exists()


def test_few_of_many_images_are_the_worst_and_the_best():
    from types import SimpleNamespace

    from custom.workbench.report.gallery import choose

    def run(values):
        images = [SimpleNamespace(metrics={"AP50": value}) for value in values]
        return SimpleNamespace(images=images)

    nan = float("nan")
    values = [0.5, nan, 0.1, 0.9, 0.3, 0.7]
    assert choose([run(values)], 6) == [2, 4, 0, 5, 3, 1]
    assert choose([run(values)], 3) == [2, 4, 1]
    assert choose([run(values), run([0.5, nan, 0.9, 0.1, 0.3, 0.7])], 2) == [4, 1]


# --- in a browser ---


@pytest.fixture(scope="module")
def real_pages(repo, tmp_path_factory, shared_data) -> dict[str, Path]:
    """Pages of two runs on real regions, and of one alone."""
    root = shared_data / "hw3"
    folder = tmp_path_factory.mktemp("real")
    val = ("TCGA-2Z-A9JG-01Z-00-DX1_4", "TCGA-5P-A9K0_1", "TCGA-A2-A04X-01Z-00-DX1_003")
    split = Split("three", "own", 0, ("TCGA-MH-A55W-01Z-00-DX1_1",), val)
    runs = [
        make_run(folder / name, repo, root, split, shift)
        for name, shift in (("near", 1), ("far", 4))
    ]
    first, second = (read_run(path, path.name, None) for path in runs)
    found = {"run": folder / "run.html", "comparison": folder / "comparison.html"}
    write_page(report_page([first], 40), found["run"])
    write_page(report_page([first, second], 40), found["comparison"])
    return found


@pytest.fixture
def chrome(tmp_path):
    with browser(tmp_path / "profile") as chrome:
        yield chrome


def wait(condition, seconds: float = 20):
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


def visible(chrome, selector: str) -> int:
    return chrome.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter("
        "n => getComputedStyle(n).display !== 'none').length",
        selector,
    )


def show(chrome, node: WebElement) -> None:
    place = "{block: 'center', behavior: 'instant'}"
    chrome.execute_script(f"arguments[0].scrollIntoView({place})", node)


def first_stage(chrome) -> WebElement:
    stage = chrome.find_element("css selector", ".card .stage")
    show(chrome, stage)
    wait(lambda: chrome.find_elements("css selector", ".card .stage path"))
    return chrome.find_element("css selector", ".card .stage")


def view_box(stage: WebElement) -> list[float]:
    text = stage.parent.execute_script(
        "return arguments[0].querySelector('svg').getAttribute('viewBox')", stage
    )
    return [float(value) for value in text.split()]


@pytest.mark.slow
def test_page_works_in_a_browser(real_pages, chrome):
    prefer(chrome, "light")
    chrome.get(real_pages["run"].as_uri())
    stage = first_stage(chrome)

    # toggles, by pointer and by keyboard
    assert visible(chrome, ".stage .truth") and visible(chrome, ".stage .prediction")
    truth = chrome.find_element("id", "show-truth")
    truth.click()
    assert visible(chrome, ".stage .truth") == 0
    assert visible(chrome, ".stage .prediction")
    truth.send_keys(Keys.SPACE)
    assert visible(chrome, ".stage .truth")
    chrome.find_element("id", "show-predictions").click()
    assert visible(chrome, ".stage .prediction") == 0
    chrome.find_element("id", "show-predictions").click()
    chrome.find_element("css selector", "[data-hide=c0]").click()
    assert visible(chrome, ".stage .c0") == 0 and visible(chrome, ".stage .c1")
    chrome.find_element("css selector", "[data-hide=c0]").click()

    # colours
    def colours() -> set[str]:
        return set(
            chrome.execute_script(
                "return [...document.querySelectorAll('.stage .prediction')]"
                ".map(n => getComputedStyle(n).stroke)"
            )
        )

    by_class = colours()
    chrome.find_element("css selector", "[name=colour][value=outcome]").click()
    assert "rgb(255, 255, 255)" in colours() - by_class

    # zoom by button, wheel, keys; move by dragging
    whole = view_box(stage)
    zoom_in = chrome.find_element("css selector", ".card .tools [title='Zoom in']")
    zoom_in.click()
    nearer = view_box(stage)
    assert nearer[2] == pytest.approx(whole[2] / 1.5, abs=0.1)
    ActionChains(chrome).drag_and_drop_by_offset(stage, 40, 20).perform()
    moved = view_box(stage)
    assert moved[0] < nearer[0] and moved[1] < nearer[1]
    assert moved[2:] == nearer[2:]
    stage.click()
    wheel = "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -200, "
    wheel += "clientX: 640, clientY: 400, cancelable: true}))"
    chrome.execute_script(wheel, stage)
    assert view_box(stage)[2] < nearer[2]
    stage.send_keys("0")
    assert view_box(stage) == whole

    # figures under the pointer: a cell, a curve
    cell = chrome.find_elements("css selector", ".card .stage .prediction")[0]
    ActionChains(chrome).move_to_element(cell).perform()
    tip = chrome.find_element("id", "tip")
    wait(tip.is_displayed)
    assert re.search(r"prediction: class\d · score \d\.\d\d", tip.text)
    assert "IoU" in tip.text
    plot = chrome.find_element("css selector", "#curves .plot")
    show(chrome, plot)
    ActionChains(chrome).move_to_element(plot).perform()
    ActionChains(chrome).move_by_offset(5, 5).perform()
    hover = "#curves .plot .hoverlayer text"
    wait(lambda: chrome.find_elements("css selector", hover))
    texts = [node.text for node in chrome.find_elements("css selector", hover)]
    assert any(re.search(r"\d\.\d", text) for text in texts), texts

    assert complaints(chrome) == []
    assert requests(chrome) == [real_pages["run"].as_uri()]


@pytest.mark.slow
def test_light_dark_and_paper(real_pages, chrome):
    def paper() -> int:
        colour = chrome.execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    def ink_of_charts() -> str:
        return chrome.execute_script(
            "return getComputedStyle(document.querySelector('.plot .xtitle')).fill"
        )

    prefer(chrome, "dark")
    chrome.get(real_pages["run"].as_uri())
    assert paper() < 150
    on_dark = ink_of_charts()
    prefer(chrome, "light")
    assert paper() > 600
    wait(lambda: ink_of_charts() != on_dark)
    chrome.find_element("id", "theme").click()
    assert paper() < 150 and ink_of_charts() == on_dark
    printed = chrome.execute_cdp_cmd("Page.printToPDF", {})
    assert len(printed["data"]) > 100_000
    assert ink_of_charts() == on_dark
    assert complaints(chrome) == []


@pytest.mark.slow
def test_comparison_zooms_both_runs_alike(real_pages, chrome):
    chrome.get(real_pages["comparison"].as_uri())
    first_stage(chrome)
    card = chrome.find_element("css selector", ".card")
    stages = card.find_elements("css selector", ".stage")
    assert len(stages) == 2
    whole = view_box(stages[0])
    card.find_element("css selector", ".tools [title='Zoom in']").click()
    ActionChains(chrome).drag_and_drop_by_offset(stages[1], -30, 10).perform()
    assert view_box(stages[0]) == view_box(stages[1]) != whole
    order = chrome.find_element("id", "order")
    names = [h.text for h in chrome.find_elements("css selector", ".card h3")]
    order.send_keys("name")
    wait(
        lambda: [h.text for h in chrome.find_elements("css selector", ".card h3")]
        == sorted(names)
    )
    assert complaints(chrome) == []
    assert requests(chrome) == [real_pages["comparison"].as_uri()]
