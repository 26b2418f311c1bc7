"""Write a run, or the comparison of several, as one page for the browser.

Examples::

    python tools/report.py work_dirs/maskrcnn_r50
    python tools/report.py work_dirs/a work_dirs/b -o compare.html

The page holds everything itself and opens from disk: settings and what they differ in
from the parent config, curves, figures with intervals, errors, and the images with
ground truth and predictions. Predictions are those of the run's newest tools/test.py;
--predict calls it where there are none.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from tqdm import tqdm

from custom.datasets.splits import patients_from_names
from custom.engine.configs import set_data_root, set_split
from custom.engine.guards import count_parameters
from custom.engine.runs import checkpoint_of_run
from custom.errors import InputError, run_tool
from custom.evaluation import read_predictions
from custom.workbench.analysis.analysis import Analysis, analyse, compare
from custom.workbench.analysis.image_result import ImageResult, load_results
from custom.workbench.report import Chart, chart, guard_page, render, write_page
from custom.workbench.report import results as show
from custom.workbench.report.data import (
    LabelledSet,
    class_rows,
    classes_of,
    set_facts,
    size_histogram,
)
from custom.workbench.report.figures import by_class, curves, histogram
from custom.workbench.report.gallery import Gallery, choose, gallery
from custom.workbench.report.run import Run, newest_predictions, parents, read_json
from custom.workbench.report.scalars import names_of, read_scalars, series
from tools.analysis import zoo
from tools.analysis.compare_runs import (
    differences,
    read_config,
    shorten,
    training_hours,
)

ROOT = Path(__file__).resolve().parents[1]
# Resampling fewer patients says nothing of others.
MIN_PATIENTS = 5


def read_run(path: Path, name: str, data_root: Path | None) -> Run:
    """Read a run folder.

    Args:
        path: The folder.
        name: What the page calls it.
        data_root: Where its images are; None for where the run found them.

    Raises:
        InputError: It holds no training run, or a broken file.
    """
    run = Run(
        path,
        name,
        read_config(path),
        read_scalars(path),
        read_json(path / "run.json") or {},
        read_json(path / "split.json"),
        newest_predictions(path),
    )
    if run.split is not None:
        set_split(run.cfg, str(path / "split.json"))
    set_data_root(run.cfg, data_root, run.record.get("data_root"))
    return run


def predict(run: Run) -> None:
    """Call tools/test.py on a run that has no predictions.

    Raises:
        InputError: There is no checkpoint, or the call fails.
    """
    checkpoint_of_run(run.path)
    tool, *arguments = test_command(run)
    print(f"$ python {shlex.join([tool, *arguments])}", flush=True)
    done = subprocess.run([sys.executable, str(ROOT / tool), *arguments])
    if done.returncode:
        raise InputError(
            run.path, "tools/test.py failed on it", "See its message above"
        )
    run.predictions = newest_predictions(run.path)


def test_command(run: Run) -> list[str]:
    """What makes the predictions of a run, with its own resolved config."""
    try:
        checkpoint = str(checkpoint_of_run(run.path))
    except InputError:
        checkpoint = "CHECKPOINT"
    return ["tools/test.py", str(run.cfg.filename), checkpoint]


def curve_charts(runs: list[Run]) -> list[tuple[str, Chart]]:
    """(heading, chart) of the scalars that the runs logged."""
    classes = classes_of(runs[0].cfg)
    kinds = (
        ("Loss", "loss", {"training": "loss", "validation": "val/loss"}, {}),
        (
            "Average precision on the validation images",
            "AP of masks",
            {
                "AP50": "coco/segm_mAP_50",
                "AP75": "coco/segm_mAP_75",
                "AP": "coco/segm_mAP",
            },
            {"unit": True},
        ),
        (
            "AP50 of each class",
            "AP50 of masks",
            {name: f"coco/segm_mAP_50_{name}" for name in classes},
            {"unit": True},
        ),
        ("Learning rate", "learning rate", {"learning rate": "lr"}, {}),
        (
            "Parts of the training loss",
            "loss",
            {
                "RPN class": "loss_rpn_cls",
                "RPN box": "loss_rpn_bbox",
                "class": "loss_cls",
                "box": "loss_bbox",
                "mask": "loss_mask",
            },
            {},
        ),
        ("Gradient norm before clipping", "norm", {"norm": "grad_norm"}, {"log": True}),
    )
    found = []
    for heading, y, keys, options in kinds:
        own = {
            run.name: {
                name: points
                for name, key in keys.items()
                if (points := series(run.rows, key))[0]
            }
            for run in runs
        }
        if any(own.values()):
            figure = curves(own, y, **options)
            found.append((heading, chart(figure, f"{heading} against the iteration")))
    return found


def settings(run: Run) -> list[tuple[str, str]]:
    """The settings that decide the result, in words."""
    cfg, facts = run.cfg, []
    model = cfg.model.get("detector", cfg.model)
    if "roi_head" in model:
        facts += [
            ("backbone", zoo.backbone(model.backbone)),
            ("neck", zoo.neck(model.get("neck"))),
            ("heads", zoo.heads(model)),
            ("anchors", zoo.anchors(model.rpn_head.anchor_generator)),
        ]
    init_default_scope("mmdet")
    with torch.device("meta"):
        total, trainable = count_parameters(MODELS.build(deepcopy(model)))
    facts += [
        ("parameters", f"{total:,}, of which {trainable:,} trainable"),
        ("optimiser", zoo.optimiser(cfg.optim_wrapper)),
        ("schedule", zoo.schedule(cfg)),
        ("batch", f"{cfg.train_dataloader.batch_size} images per process"),
        ("first weights", cfg.get("load_from") or _weights(model)),
    ]
    return facts


def _weights(model) -> str:
    return (model.backbone.get("init_cfg") or {}).get("checkpoint", "random")


def parent_differences(run: Run) -> dict | None:
    """What the run's settings differ in from its config's parents."""
    if run.config_file is None:
        return None
    try:
        names, inherited = parents(run.config_file)
    except FileNotFoundError:  # a parent is gone
        return None
    differing = differences([inherited, run.cfg])
    return {
        "config": str(run.config_file),
        "parents": names,
        "rows": [(shorten(name), *values) for name, values in differing.items()],
    }


def environment(run: Run) -> list[tuple[str, str]]:
    """Where the run comes from."""
    record = run.record
    git = record.get("git") or {}
    changed = git.get("changed_files", [])
    facts = [
        ("folder", str(run.path)),
        ("command", "python " + shlex.join(record.get("command", []))),
        ("started", record.get("started", "unknown")),
        ("training", f"{training_hours(run.rows):.2f} hours, without validation"),
        ("seed", str(record.get("seed", "unknown"))),
        ("processes", str(record.get("world_size", "unknown"))),
        ("git commit", git.get("commit", "unknown")),
        ("changed files", ", ".join(changed) if changed else "none"),
        ("machine", record.get("platform", "unknown")),
        ("Python", record.get("python", "unknown")),
    ]
    return facts + sorted(record.get("packages", {}).items())


def data_facts(run: Run) -> dict:
    """The section on the data set."""
    sets = {}
    for name, loader in (("training", "train"), ("validation", "val")):
        config = run.cfg.get(f"{loader}_dataloader")
        if not config or (run.split is not None and not run.split[loader]):
            continue
        labelled = LabelledSet(config.dataset)
        sets[name] = list(
            tqdm(labelled, desc=f"{name} images", unit="image", delay=1, leave=False)
        )
    classes, palette = labelled.classes, labelled.palette
    charts = [
        (
            f"Size of the {name} cells",
            chart(
                by_class(
                    histogram(
                        *size_histogram(images, classes),
                        "root of the area in pixels",
                        "% of the class",
                    ),
                    palette,
                ),
                f"Size of the {name} cells by class",
                "The last step holds all larger cells.",
            ),
        )
        for name, images in sets.items()
    ]
    headers = [("class", "text")]
    for name in sets:
        headers += [(f"{name} cells", "number"), ("in images", "number")]
    headers += [("size, median", "number"), ("10 to 90 %", "number")]
    facts = [(name, set_facts(images)) for name, images in sets.items()]
    if run.split is not None:
        facts.insert(0, ("split", f"{run.split['name']}, rule {run.split['rule']}"))
    return {
        "facts": [*facts, ("size", "root of a cell's area in pixels")],
        "headers": headers,
        "rows": class_rows(sets, classes),
        "charts": charts,
    }


def analyse_run(run: Run) -> tuple[list[ImageResult], Analysis]:
    """Every figure and error of a run's predictions.

    Raises:
        InputError: The predictions are broken, or are not of the run's images.
    """
    predictions = read_predictions(run.predictions)
    images = load_results(run.cfg, predictions)
    names = [image.name for image in images]
    if run.split is not None and set(names) != set(run.split["val"]):
        raise InputError(
            run.predictions,
            "it does not cover the validation images of the run's split.json",
            f"Write it again with python {shlex.join(test_command(run))}",
        )
    try:
        patients = patients_from_names(names, run.predictions)
    except InputError:
        patients = None
    if patients is not None and len(set(patients.values())) < MIN_PATIENTS:
        patients = None
    return images, analyse(images, predictions.classes, patient_of=patients)


def make_gallery(
    runs: list[Run],
    analyses: Sequence[Analysis],
    images: Sequence[list[ImageResult]],
    labelled: LabelledSet,
    most: int,
) -> tuple[Gallery, str]:
    """The gallery, and what it shows in words."""
    chosen = choose(analyses, most)
    number_of = {image.name: i for i, image in enumerate(images[0])}
    # Each image is read when its turn comes.
    pictures = labelled.images([images[0][i].name for i in chosen])
    made = gallery(
        [run.name for run in runs],
        analyses,
        images,
        (
            (number_of[name], image)
            for name, image in tqdm(
                pictures, "gallery", len(chosen), unit="image", delay=1, leave=False
            )
        ),
        labelled.palette,
    )
    total, count = len(images[0]), len(chosen)
    which = (
        f"All {total}" if count == total else f"The {count} worst and best of {total}"
    )
    return made, (
        f"{which} validation images, the worst by AP50 first. Predictions of score "
        f"{analyses[0].settings['score_thr']:g} and more."
    )


def about_figures(analysis: Analysis) -> str:
    """How the figures came about."""
    own = analysis.settings
    return (
        f"{own['images']} validation images. AP counts {own['max_dets']:,} predictions "
        f"of an image and class; everything that needs a decision takes predictions of "
        f"score {own['score_thr']:g} and more, and mask IoU {own['iou_thr']:g}. "
        f"Intervals: 95 %, bootstrap over {show.unit(analysis)}, {own['resamples']:,} "
        "resamples."
    )


def run_page(run: Run, most: int) -> str:
    """The page of one run."""
    results = None
    if run.predictions is not None:
        images, analysis = analyse_run(run)
        labelled = LabelledSet(run.cfg.val_dataloader.dataset)
        made, images_about = make_gallery([run], [analysis], [images], labelled, most)
        results = {
            "tiles": show.tiles(analysis),
            "about": about_figures(analysis),
            "class_headers": show.CLASS_HEADERS,
            "class_rows": show.class_rows(analysis),
            "figure_rows": show.figure_rows([analysis]),
            "precision_recall": show.precision_recall(analysis, labelled.palette),
            "calibration": show.calibration({run.name: analysis}),
            "cells": show.outcomes(analysis, "cells"),
            "predictions": show.outcomes(analysis, "predictions"),
            "confusion": show.confusion(analysis),
            **recall_charts({run.name: analysis}),
            "gallery": made,
            "images_about": images_about,
        }
    return render(
        "run.html.j2",
        title=run.name,
        subtitle=subtitle(run),
        results=results,
        command="python " + shlex.join(test_command(run)),
        curves=curve_charts([run]),
        data=data_facts(run),
        settings=settings(run),
        parent=parent_differences(run),
        environment=environment(run),
        config=Path(run.cfg.filename).read_text(),
    )


def subtitle(run: Run) -> str:
    """Config, split and date in one line."""
    words = [str(run.config_file or run.cfg.filename)]
    if run.split is not None:
        words.append(f"split {run.split['name']}")
    if "started" in run.record:
        words.append(run.record["started"][:10])
    return " · ".join(words)


def recall_charts(analyses: dict[str, Analysis]) -> dict[str, Chart]:
    """Recall of the cells by size and by crowding."""
    return {
        "recall_by_size": show.recall(
            {name: own.recall_by_size for name, own in analyses.items()},
            "root of the area in pixels",
            "Recall by size of the cell",
        ),
        "recall_by_crowding": show.recall(
            {name: own.recall_by_crowding for name, own in analyses.items()},
            "neighbours",
            "Recall by number of neighbours",
        ),
    }


def check_comparable(runs: list[Run]) -> None:
    """Refuse runs whose figures do not belong side by side.

    Raises:
        InputError: The classes or the validation images differ.
    """
    first = runs[0]
    for other in runs[1:]:
        ours, theirs = classes_of(first.cfg), classes_of(other.cfg)
        if ours != theirs:
            raise InputError(
                other.path,
                f"its classes are {', '.join(theirs)}, those of "
                f"{first.name} are {', '.join(ours)}",
                "Compare runs on the same classes",
            )
        ours, theirs = (set((run.split or {}).get("val", ())) for run in (first, other))
        if ours != theirs:
            odd = sorted(ours ^ theirs)
            raise InputError(
                other.path,
                f"{len(odd)} validation images are in one of it and {first.name} only "
                f"({odd[0]}{', ...' if len(odd) > 1 else ''})",
                "Compare runs on the same split",
            )


def comparison_page(runs: list[Run], most: int) -> str:
    """The page of several runs."""
    names = [run.name for run in runs]
    differing = differences([run.cfg for run in runs])
    missing = [run for run in runs if run.predictions is None]
    return render(
        "comparison.html.j2",
        title=" and ".join(names) if len(runs) < 3 else f"{len(runs)} runs",
        subtitle=subtitle(runs[0]),
        differing=[[shorten(name), *values] for name, values in differing.items()],
        differing_headers=[("setting", "code"), *((name, "code") for name in names)],
        missing=[run.name for run in missing],
        commands=["python " + shlex.join(test_command(run)) for run in missing],
        results=None if missing else compared_results(runs, most),
        curves=curve_charts(runs),
        environments=[(run.name, environment(run)) for run in runs],
    )


def compared_results(runs: list[Run], most: int) -> dict:
    """Figures, errors and images of runs side by side."""
    names = [run.name for run in runs]
    images, analyses = zip(*map(analyse_run, runs), strict=True)
    by_name = dict(zip(names, analyses, strict=True))
    labelled = LabelledSet(runs[0].cfg.val_dataloader.dataset)
    made, images_about = make_gallery(runs, analyses, images, labelled, most)
    pairs = []
    for name, analysis in list(by_name.items())[1:]:
        pair = compare(analyses[0], analysis)
        pairs.append(
            {
                "heading": f"{name} against {names[0]}",
                "about": "The runs are paired on the same images. Intervals: 95 %, "
                f"bootstrap over {pair.units} {pair.unit}s; p: how often exchanging "
                f"the runs on random {pair.unit}s gives a difference as large.",
                "headers": [
                    ("figure", "text"),
                    (names[0], "number"),
                    (name, "number"),
                    ("difference", "number"),
                    ("p", "number"),
                ],
                "rows": show.difference_rows(pair),
                "chart": show.difference_chart(pair, names[0], name),
            }
        )
    headers = [("figure", "text"), *((name, "number") for name in names)]
    return {
        "pairs": pairs,
        "figure_headers": [*headers, ("what it is", "text")],
        "figure_rows": show.figure_rows(analyses),
        "about": about_figures(analyses[0]),
        "class_headers": show.CLASS_HEADERS,
        "class_rows": [(n, show.class_rows(a)) for n, a in by_name.items()],
        "outcomes": [
            (n, show.outcomes(a, "cells"), show.outcomes(a, "predictions"))
            for n, a in by_name.items()
        ],
        "confusions": [(n, show.confusion(a)) for n, a in by_name.items()],
        "precision_recall": [
            (n, show.precision_recall(a, labelled.palette)) for n, a in by_name.items()
        ],
        "calibration": show.calibration(by_name),
        **recall_charts(by_name),
        "gallery": made,
        "images_about": images_about,
    }


def main() -> None:
    """Read the runs and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work dirs")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="default: report.html in the folder of a single run",
    )
    parser.add_argument(
        "--data-root", type=Path, help="where the images are now, if they were moved"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=40,
        help="show at most so many images, the worst and the best (40)",
    )
    parser.add_argument(
        "--predict",
        action="store_true",
        help="call tools/test.py for runs without predictions",
    )
    args = parser.parse_args()
    if args.out is None and len(args.runs) > 1:
        parser.error("a comparison needs --out")
    out = args.out or args.runs[0] / "report.html"
    guard_page(out)
    runs = [
        read_run(path, name, args.data_root)
        for path, name in zip(args.runs, names_of(args.runs), strict=True)
    ]
    check_comparable(runs)
    if args.predict:
        for run in runs:
            if run.predictions is None:
                predict(run)
    if len(runs) > 1:
        page = comparison_page(runs, args.images)
    else:
        page = run_page(runs[0], args.images)
    write_page(page, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
