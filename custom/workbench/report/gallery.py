"""Images with the outlines of their cells and of what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from custom.evaluation.iou_table import iou_table
from custom.structures import LabelMasks
from custom.workbench.analysis.analysis import Analysis, ImageAnalysis
from custom.workbench.analysis.image_result import ImageResult
from custom.workbench.report.pictures import image_uri, outline
from custom.workbench.report.theme import OUTCOMES, Color, css

# In short what custom.workbench.analysis.outcomes defines.
_ABOUT = {
    "true": "found: mask IoU 0.5 or more with a prediction of its class",
    "missed": "a cell without any prediction",
    "false": "a prediction without any cell",
    "wrong class": "mask IoU 0.5 or more, but of another class",
    "bad mask": "mask IoU from 0.1 to 0.5",
    "split": "one cell, covered by several predictions",
    "merged": "one prediction that covers several cells",
    "duplicate": "a second prediction of a cell that is found",
    "ignored": "in a region that does not count",
}
_NAMES = tuple(OUTCOMES)
_LOW_SCORE = "low score"


@dataclass(frozen=True)
class Gallery:
    """What the template takes.

    Attributes:
        classes: ``name`` and ``colour`` of each.
        outcomes: ``key, name, colour, about`` of those that occur, and their ``count``
            where there is one run.
        orders: (key, text) of the ways to sort.
        data: What the script draws.
    """

    classes: list[dict]
    outcomes: list[dict]
    orders: list[tuple[str, str]]
    data: dict


def choose(analyses: Sequence[Analysis], most: int) -> list[int]:
    """Numbers of the images to show: the worst and the best by AP50, worst first.

    Of several runs the mean of an image counts; without cells an image comes last.
    """

    def ap50(i: int) -> float:
        values = [a.images[i].figures["AP50"] for a in analyses]
        values = [v for v in values if v is not None]
        return float(np.mean(values)) if values else 2.0

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
    """Make the gallery of one or several runs on the same images.

    Args:
        runs: Names.
        analyses: One of each run.
        results: For each run its images, as the analysis has them.
        images: (number, (H, W, 3) uint8 RGB) of those to show, in the order to show.
        palette: Colours of the classes.
    """
    shown, counts = [], Counter()
    for number, image in images:
        row = _image(image, [own[number] for own in results])
        for analysis, own in zip(analyses, results, strict=True):
            about = analysis.images[number]
            part, outcomes = _run(about, own[number])
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
    )


def _image(image: np.ndarray, results: list[ImageResult]) -> dict:
    first = results[0]
    return {
        "name": first.name,
        "width": first.size[1],
        "height": first.size[0],
        "uri": image_uri(image),
        "truth": [
            [int(label), outline(patch, y, x)]
            for label, (y, x, patch) in zip(
                first.gt_labels, first.gt.patches(), strict=True
            )
        ],
        "runs": [],
    }


def _run(about: ImageAnalysis, result: ImageResult) -> tuple[dict, Counter]:
    """What one run found in one image, and the number of each outcome."""
    table = iou_table(result.gt, result.rles)
    shape = (len(result.gt), len(result.rles))
    ious = csr_matrix((table.iou, (table.gt, table.pred)), shape=shape)

    def iou(cell: int, prediction: int) -> float | None:
        if cell < 0 or prediction < 0:
            return None
        return round(float(ious[cell, prediction]), 2)

    cells = [
        [_NAMES.index(outcome), iou(i, partner)]
        for i, (outcome, partner) in enumerate(
            zip(about.cell_outcomes, about.cell_partners, strict=True)
        )
    ]
    kept = [i for i, o in enumerate(about.prediction_outcomes) if o != _LOW_SCORE]
    masks = LabelMasks.from_rles([result.rles[i] for i in kept], result.size)
    predictions = [
        [
            int(result.labels[i]),
            round(float(result.scores[i]), 2),
            iou(about.prediction_partners[i], i),
            _NAMES.index(about.prediction_outcomes[i]),
            outline(patch, y, x),
        ]
        for i, (y, x, patch) in zip(kept, masks.patches(), strict=True)
    ]
    found = Counter(about.prediction_outcomes[i] for i in kept)
    # A true pair is one thing; of the others each side is one.
    counts = found + Counter(o for o in about.cell_outcomes if o != "true")
    figures = about.figures
    words = [
        *(f"{key} {_figure(figures[key])}" for key in ("AP50", "PQ")),
        f"{len(cells)} cells",
        f"{Counter(about.cell_outcomes)['missed']} missed",
        f"{found['false']} false",
    ]
    part = {"truth": cells, "predictions": predictions, "figures": " · ".join(words)}
    return part, counts


def _sort_keys(about: list[ImageAnalysis]) -> dict[str, float | str]:
    """Keys that sort upwards; images without a figure come last either way."""

    def mean(key: str) -> float | None:
        values = [a.figures[key] for a in about if a.figures[key] is not None]
        return float(np.mean(values)) if values else None

    ap50, pq = mean("AP50"), mean("PQ")
    last = [about[0].figures["AP50"], about[-1].figures["AP50"]]
    difference = None if None in last else last[1] - last[0]
    keys = {"cells": len(about[0].cell_outcomes), "name": about[0].name}
    for key, value in (("ap50", ap50), ("pq", pq), ("difference", difference)):
        keys[key] = 9.0 if value is None else round(value, 4)
        keys[f"-{key}"] = 9.0 if value is None else round(-value, 4)
    keys["-cells"] = -keys.pop("cells")
    return keys


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
