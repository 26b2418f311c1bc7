"""Images with the outlines of cells and predictions, for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from custom.evaluation.iou_table import iou_table
from custom.evaluation.matching import ImageResult
from custom.structures import LabelMasks
from custom.workbench.analysis.analysis import Analysis, ImageAnalysis
from custom.workbench.report.images import image_uri, outline
from custom.workbench.report.theme import OUTCOMES, Color, css

# Short forms of the definitions in custom.workbench.analysis.outcomes.
_ABOUT = {
    "true": "mask IoU 0.5 or more with a prediction of its class",
    "missed": "a cell without any prediction",
    "false": "a prediction without any cell",
    "wrong class": "mask IoU 0.5 or more, but of another class",
    "bad mask": "mask IoU from 0.1 to 0.5",
    "split": "one cell, covered by several predictions",
    "merged": "one prediction that covers several cells",
    "duplicate": "a second prediction of a cell that is true",
    "ignored": "in a region that does not count",
    "low score": "below the score threshold of the metrics",
}
_NAMES = tuple(OUTCOMES)
# Below the threshold of the metrics, for the slider: the best of each image.
_LEAST_SCORE, _MOST_LOW_SCORES = 0.05, 100


@dataclass(frozen=True)
class Gallery:
    """What the template takes.

    Attributes:
        classes: ``name`` and ``colour`` of each.
        outcomes: ``key, name, colour, about`` of those that occur, and their ``count``
            where there is one run.
        orders: (key, text) of the ways to sort.
        data: What the script draws.
        score_thr: Predictions from this score on are shown at first.
    """

    classes: list[dict]
    outcomes: list[dict]
    orders: list[tuple[str, str]]
    data: dict
    score_thr: float


def choose(analyses: Sequence[Analysis], most: int) -> list[int]:
    """Numbers of the images to show: the worst and the best by AP50, worst first.

    Of several runs the mean of an image counts; without cells an image comes last.
    """

    def ap50(i: int) -> float:
        value = _mean_metric([a.images[i] for a in analyses], "AP50")
        return 2.0 if value is None else value

    order = sorted(range(len(analyses[0].images)), key=ap50)
    if len(order) <= most:
        return order
    return order[: most - most // 2] + order[len(order) - most // 2 :]


def gallery(
    runs: Sequence[str],
    analyses: Sequence[Analysis],
    results: Sequence[Sequence[ImageResult]],
    images: Iterable[tuple[int, np.ndarray]],
    palette: Sequence[Color],
) -> Gallery:
    """The gallery of one or several runs on the same images.

    Args:
        runs: Names.
        analyses: One of each run.
        results: For each run its images, as the analysis has them.
        images: (number, (H, W, 3) uint8 RGB) of those to show, in the order to show.
        palette: Colours of the classes.
    """
    shown, counts = [], Counter()
    for number, image in images:
        row = _image(image, results[0][number])
        for analysis, of_run in zip(analyses, results, strict=True):
            part, outcomes = _run(analysis.images[number], of_run[number])
            row["runs"].append(part)
            counts += outcomes
        row["sort"] = _sort_keys([a.images[number] for a in analyses])
        shown.append(row)
    several = len(runs) > 1
    orders = [
        ("ap50", "AP50, worst first" + (" (mean of the runs)" if several else "")),
        ("-ap50", "AP50, best first" + (" (mean of the runs)" if several else "")),
    ]
    if several:
        orders += [
            ("difference", f"AP50 of {runs[-1]} least above {runs[0]}"),
            ("-difference", f"AP50 of {runs[-1]} most above {runs[0]}"),
        ]
    else:
        orders += [("pq", "PQ, worst first"), ("-pq", "PQ, best first")]
    orders += [("-cells", "most cells first"), ("name", "name")]
    classes = analyses[0].classes
    return Gallery(
        classes=[
            {"name": name, "colour": css(tuple(color))}
            for name, color in zip(classes, palette, strict=True)
        ],
        outcomes=[
            {
                "key": f"o{_NAMES.index(name)}",
                "name": name,
                "colour": css(color),
                "about": _ABOUT[name],
                "count": "" if several else f"{counts[name]:,}",
            }
            for name, color in OUTCOMES.items()
            if counts[name]
        ],
        orders=orders,
        data={
            "runs": list(runs),
            "classes": list(classes),
            "outcomes": list(_NAMES),
            "images": shown,
        },
        score_thr=_first_threshold(analyses),
    )


def _first_threshold(analyses: Sequence[Analysis]) -> float:
    """The metrics' threshold, or a lower one where a run would show nothing."""
    best = min(max(i.max_score for i in a.images) for a in analyses)
    threshold = analyses[0].settings["score_thr"]
    if best >= threshold:
        return threshold
    return max(_LEAST_SCORE, np.floor(best * 10) / 20)


def _image(image: np.ndarray, result: ImageResult) -> dict:
    return {
        "name": result.name,
        "width": result.size[1],
        "height": result.size[0],
        "uri": image_uri(image),
        "truth": [
            [int(label), outline(patch, y, x)]
            for label, (y, x, patch) in zip(
                result.gt_labels, result.gt.patches(), strict=True
            )
        ],
        "runs": [],
    }


def _run(about: ImageAnalysis, result: ImageResult) -> tuple[dict, Counter]:
    """The cells and predictions of one run in one image, and the outcomes' counts."""
    table = iou_table(result.gt, result.rles)
    shape = (len(result.gt), len(result.rles))
    ious = csr_matrix((table.iou, (table.gt, table.pred)), shape=shape)
    outcomes = about.outcomes

    def iou(cell: int, prediction: int) -> float | None:
        if cell < 0 or prediction < 0:
            return None
        return round(float(ious[cell, prediction]), 2)

    cells = [
        [_NAMES.index(outcome), iou(i, partner)]
        for i, (outcome, partner) in enumerate(
            zip(outcomes.cells, outcomes.cell_partners, strict=True)
        )
    ]
    shown = _shown(outcomes.predictions, result.scores)
    masks = LabelMasks.from_rles([result.rles[i] for i in shown], result.size)
    predictions = [
        [
            int(result.labels[i]),
            round(float(result.scores[i]), 2),
            iou(outcomes.prediction_partners[i], i),
            _NAMES.index(outcomes.predictions[i]),
            outline(patch, y, x),
        ]
        for i, (y, x, patch) in zip(shown, masks.patches(), strict=True)
    ]
    counts = Counter(outcomes.predictions[shown].tolist())
    words = [
        *(f"{key} {_metric(about.metrics[key])}" for key in ("AP50", "PQ")),
        f"{len(cells)} cells",
        f"{np.count_nonzero(outcomes.cells == 'missed')} missed",
        f"{counts['false']} false",
    ]
    part = {"truth": cells, "predictions": predictions, "metrics": " · ".join(words)}
    # A true pair is counted once; of other outcomes each side counts.
    counts += Counter(outcomes.cells[outcomes.cells != "true"].tolist())
    return part, counts


def _shown(outcomes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the predictions that the page holds, ascending."""
    low = np.flatnonzero((outcomes == "low score") & (scores >= _LEAST_SCORE))
    low = low[np.argsort(-scores[low], kind="stable")[:_MOST_LOW_SCORES]]
    return np.sort(np.append(np.flatnonzero(outcomes != "low score"), low))


def _mean_metric(images: Sequence[ImageAnalysis], key: str) -> float | None:
    """Mean of a metric of one image over the runs; None where it is not defined."""
    values = [i.metrics[key] for i in images if not np.isnan(i.metrics[key])]
    return float(np.mean(values)) if values else None


def _sort_keys(images: Sequence[ImageAnalysis]) -> dict[str, float | str]:
    """Keys that sort upwards; images without a metric come last either way."""
    difference = images[-1].metrics["AP50"] - images[0].metrics["AP50"]
    values = {
        "ap50": _mean_metric(images, "AP50"),
        "pq": _mean_metric(images, "PQ"),
        "difference": None if np.isnan(difference) else difference,
    }
    keys = {"-cells": -len(images[0].outcomes.cells), "name": images[0].name}
    for key, value in values.items():
        keys[key] = 9.0 if value is None else round(value, 4)
        keys[f"-{key}"] = 9.0 if value is None else round(-value, 4)
    return keys


def _metric(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"
