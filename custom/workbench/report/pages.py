"""The page of a run, or of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from custom.datasets.splits import patients_from_names
from custom.errors import InputError
from custom.evaluation import read_predictions
from custom.evaluation.matching import ImageResult
from custom.workbench.analysis.analysis import Analysis, analyse, compare
from custom.workbench.analysis.results import load_results
from custom.workbench.analysis.statistics import holm
from custom.workbench.labelled import LabelledSet, classes_of
from custom.workbench.report import charts, tables
from custom.workbench.report.gallery import choose, gallery
from custom.workbench.report.page import render
from custom.workbench.report.run import Run, series
from custom.workbench.report.settings import describe, differences

_ABOUT_PAIRS = (
    "Paired on the same images; intervals 95 %. Interval and test are one: the "
    "interval of a metric excludes 0 exactly where its own p-value is below .05. Trust "
    "the interval for the metric that you chose before you looked. When you read the "
    "whole table, trust p: it is corrected for the {} tests of this page (Holm), "
    "because among many metrics one differs by chance. Both speak about these trained "
    "models; another seed of the same config is another model."
)
_NO_TESTS = (
    "Paired on the same images. There are too few independent groups for intervals and "
    "tests: the differences may be chance."
)
_AP = "coco/segm_mAP"
# Heading, title of the y axis, its scale, and the logged scalars by their names.
_CURVES = (
    ("Loss", "loss", "linear", {"training": "loss", "validation": "val/loss"}),
    (
        "Average precision on the validation images",
        "AP of masks",
        "unit",
        {"AP50": f"{_AP}_50", "AP75": f"{_AP}_75", "AP": _AP},
    ),
    (
        "Parts of the training loss",
        "loss",
        "linear",
        {
            "RPN class": "loss_rpn_cls",
            "RPN box": "loss_rpn_bbox",
            "class": "loss_cls",
            "box": "loss_bbox",
            "mask": "loss_mask",
        },
    ),
    ("Learning rate", "learning rate", "linear", {"learning rate": "lr"}),
    ("Gradient norm before clipping", "norm", "log", {"norm": "grad_norm"}),
)


def report_page(runs: Sequence[Run], most: int, score_thr: float = 0.5) -> str:
    """The HTML of a report.

    Args:
        runs: One, or several on the same validation images.
        most: Images to show.
        score_thr: Predictions from this score on count in metrics that need a decision.

    Raises:
        InputError: Predictions are broken, or not of the run's images, or the runs
            differ in classes or images.
    """
    _check_comparable(runs)
    several = len(runs) > 1
    missing = [run for run in runs if run.predictions is None]
    names = [run.name for run in runs]
    return render(
        "report.html.j2",
        title=" and ".join(names) if len(runs) < 3 else f"{len(runs)} runs",
        subtitle=runs[0].subtitle(),
        several=several,
        missing=[run.name for run in missing],
        commands=[run.test_command for run in missing],
        differing=differences([run.cfg for run in runs]) if several else [],
        differing_headers=[("setting", "code"), *((n, "code") for n in names)],
        results=None if missing else _results(runs, most, score_thr),
        curves=curve_charts(runs),
        settings=None if several else describe(runs[0].cfg),
        config=None if several else Path(runs[0].cfg.filename).read_text(),
        environments=[(run.name, run.environment()) for run in runs],
    )


def _check_comparable(runs: Sequence[Run]) -> None:
    """Raise :class:`InputError` if the runs differ in classes or validation images."""
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
            differing = sorted(ours ^ theirs)
            raise InputError(
                other.path,
                f"{len(differing)} validation images are in one of it and {first.name} "
                f"only ({differing[0]}{', ...' if len(differing) > 1 else ''})",
                "Compare runs on the same split",
            )


def analyse_run(run: Run, score_thr: float = 0.5) -> tuple[list[ImageResult], Analysis]:
    """The images of a run's predictions, and their analysis.

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
            f"Write it again with {run.test_command}",
        )
    try:
        patients = patients_from_names(names, run.predictions)
    except InputError:
        patients = None
    classes = predictions.classes or classes_of(run.cfg)
    return images, analyse(images, classes, score_thr, patient_of=patients)


def curve_charts(runs: Sequence[Run]) -> list[tuple[str, dict]]:
    """(heading, chart) of the scalars that the runs logged."""
    per_class = {name: f"{_AP}_50_{name}" for name in classes_of(runs[0].cfg)}
    kinds = [*_CURVES, ("AP50 of each class", "AP50 of masks", "unit", per_class)]
    plots = []
    for heading, y, scale, keys in kinds:
        points = {}
        for run in runs:
            of_run = {name: series(run.rows, key) for name, key in keys.items()}
            points[run.name] = {name: xy for name, xy in of_run.items() if xy[0]}
        if any(points.values()):
            plots.append((heading, charts.curves(heading, points, y, scale)))
    return plots


def _results(runs: Sequence[Run], most: int, score_thr: float) -> dict:
    """Metrics, errors and images of the runs."""
    names = [run.name for run in runs]
    images, analyses = zip(*(analyse_run(run, score_thr) for run in runs), strict=True)
    by_name = dict(zip(names, analyses, strict=True))
    labelled = LabelledSet.from_config(runs[0].cfg.val_dataloader.dataset)
    chosen = choose(analyses, most)
    # A generator: one image at a time is in memory.
    bar = tqdm(chosen, "gallery", unit="image", delay=1, leave=False)
    pixels = ((i, labelled.read_image(images[0][i].path)) for i in bar)
    total, count = len(images[0]), len(chosen)
    which = (
        f"All {total}" if count == total else f"The {count} worst and best of {total}"
    )

    def each(heading: str, draw) -> list[tuple[str, dict]]:
        prefix = "{}: " if len(runs) > 1 else ""
        return [(prefix.format(n) + heading, draw(a)) for n, a in by_name.items()]

    return {
        "note": tables.low_scores(by_name),
        "tiles": tables.tiles(analyses[0]) if len(runs) == 1 else None,
        "about": tables.about_metrics(analyses[0]),
        "pairs": _pairs(by_name),
        "metric_headers": [
            ("metric", "text"),
            *((n, "number") for n in names),
            ("what it is", "text"),
        ],
        "metric_rows": tables.metric_rows(analyses),
        "class_headers": tables.CLASS_HEADERS,
        "class_tables": [(n, tables.class_rows(a)) for n, a in by_name.items()],
        "charts": each(
            "Precision and recall",
            lambda a: charts.precision_recall(a, labelled.palette),
        ),
        "errors": [
            *each(
                "Outcomes of the cells",
                lambda a: charts.outcomes(a.cell_outcomes, "cells"),
            ),
            *each(
                "Outcomes of the predictions",
                lambda a: charts.outcomes(a.prediction_outcomes, "predictions"),
            ),
            *each("Confusion of classes", charts.confusion),
            ("Recall by size of the cell", charts.recall_by_size(by_name)),
        ],
        "gallery": gallery(
            names,
            analyses,
            images,
            pixels,
            labelled.palette,
        ),
        "about_images": f"{which} validation images, the worst by AP50 first. Outcomes "
        f"are those at score {score_thr:g}; predictions below it are grey.",
    }


def _pairs(analyses: Mapping[str, Analysis]) -> list[dict]:
    """Each later run against the first, with p-values corrected over all pairs."""
    (first, baseline), *later = analyses.items()
    gaps = {name: compare(baseline, analysis) for name, analysis in later}
    keys = [(name, key) for name, gap in gaps.items() for key in gap]
    adjusted = holm([gaps[name][key].p for name, key in keys])
    corrected = dict(zip(keys, adjusted.tolist(), strict=True))
    count = int(np.count_nonzero(~np.isnan(adjusted)))
    return [
        {
            "heading": f"{name} against {first}",
            "about": _ABOUT_PAIRS.format(count) if count else _NO_TESTS,
            "headers": [
                ("metric", "text"),
                (first, "number"),
                (name, "number"),
                ("difference", "number"),
                ("p (Holm)", "number"),
            ],
            "rows": tables.difference_rows(
                baseline.intervals,
                analyses[name].intervals,
                gap,
                {key: corrected[name, key] for key in gap},
            ),
            "chart": charts.differences(gap, first, name),
        }
        for name, gap in gaps.items()
    ]
