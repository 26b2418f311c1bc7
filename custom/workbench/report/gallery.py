"""Images with the outlines of cells and predictions, for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

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


def choose(analyses: Sequence[Analysis], most: int) -> list[int]:
    """Numbers of the images to show: the worst and the best by AP50, worst first.

    Of several runs the mean of an image counts; without cells an image comes last.
    """
    ap50 = np.array([[image.ap50 for image in a.images] for a in analyses])
    order = np.argsort(ap50.mean(axis=0), kind="stable").tolist()  # NaN last
    if len(order) <= most:
        return order
    return order[: most - most // 2] + order[len(order) - most // 2 :]


def gallery(
    runs: Sequence[str],
    analyses: Sequence[Analysis],
    results: Sequence[Sequence[ImageResult]],
    images: Iterable[tuple[int, np.ndarray]],
    palette: Sequence[Color],
) -> dict:
    """Data of ``gallery.html.j2`` for one or several runs on the same images.

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
        of_image = [analysis.images[number] for analysis in analyses]
        for about, of_run in zip(of_image, results, strict=True):
            part, outcomes = _run(about, of_run[number])
            row["runs"].append(part)
            counts += outcomes
        row["sort"] = _sort_keys(of_image)
        shown.append(row)
    classes, several = analyses[0].classes, len(runs) > 1
    orders = [("ap50", "AP50, worst first"), ("-ap50", "AP50, best first")]
    if several:
        orders.append(("gain", f"AP50 of {runs[-1]} least above {runs[0]}"))
    return {
        "classes": [
            {"name": name, "colour": css(color)}
            for name, color in zip(classes, palette, strict=True)
        ],
        # Those that occur; with several runs a count would be of none of them.
        "outcomes": [
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
        "orders": [*orders, ("-cells", "most cells first"), ("name", "name")],
        "data": {
            "runs": runs,
            "classes": classes,
            "outcomes": _NAMES,
            "images": shown,
        },
        "score_thr": _first_threshold(analyses),
    }


def _first_threshold(analyses: Sequence[Analysis]) -> float:
    """The metrics' threshold, or a lower one where a run would show nothing."""
    best = min(max(i.max_score for i in a.images) for a in analyses)
    threshold = analyses[0].settings["score_thr"]
    if best >= threshold:
        return threshold
    return max(_LEAST_SCORE, np.floor(best * 10) / 20)


def _image(image: np.ndarray, result: ImageResult) -> dict:
    """The pixels and the ground truth of an image."""
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
    pairs = zip(table.gt.tolist(), table.pred.tolist(), strict=True)
    ious = dict(zip(pairs, table.iou.round(2).tolist(), strict=True))
    outcomes = about.outcomes
    cells = [
        [_NAMES.index(outcome), ious.get((i, partner))]
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
            ious.get((outcomes.prediction_partners[i], i)),
            _NAMES.index(outcomes.predictions[i]),
            outline(patch, y, x),
        ]
        for i, (y, x, patch) in zip(shown, masks.patches(), strict=True)
    ]
    counts = Counter(outcomes.predictions[shown].tolist())
    words = [
        f"AP50 {about.ap50:.2f}",
        f"PQ {about.pq:.2f}",
        f"{len(cells)} cells",
        f"{np.count_nonzero(outcomes.cells == 'missed')} missed",
        f"{counts['false']} false",
    ]
    metrics = " · ".join(words).replace("nan", "–")
    # A true pair is counted once; of other outcomes each side counts.
    counts += Counter(outcomes.cells[outcomes.cells != "true"].tolist())
    return {"truth": cells, "predictions": predictions, "metrics": metrics}, counts


def _shown(outcomes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the predictions that the page holds, ascending."""
    low = np.flatnonzero((outcomes == "low score") & (scores >= _LEAST_SCORE))
    low = low[np.argsort(-scores[low], kind="stable")[:_MOST_LOW_SCORES]]
    return np.sort(np.append(np.flatnonzero(outcomes != "low score"), low))


def _sort_keys(images: Sequence[ImageAnalysis]) -> dict[str, float | str]:
    """Keys that sort upwards; images without a metric come last either way."""
    ap50 = np.array([image.ap50 for image in images])
    values = {
        "ap50": ap50.mean(),
        "-ap50": -ap50.mean(),
        "gain": ap50[-1] - ap50[0],
        "-cells": -len(images[0].outcomes.cells),
    }
    keys = {key: 9.0 if np.isnan(v) else float(v) for key, v in values.items()}
    return {**keys, "name": images[0].name}
