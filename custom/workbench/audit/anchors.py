"""How well anchors fit the cells of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The FPN levels of every config here, and MMDetection's RPN.
STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class AnchorFit:
    """The fit of one choice of scales.

    Attributes:
        scales: Of the anchors, in strides.
        mean: Over the classes, the mean over their cells of the best IoU with an
            anchor.
        by_class: That mean for each class, NaN without cells.
        sure: Share of the cells with an anchor above IoU 0.7, which the RPN learns as
            a positive.
        lost: Share of the cells without one above 0.3, which it never learns.
    """

    scales: tuple[float, ...]
    mean: float
    by_class: tuple[float, ...]
    sure: float
    lost: float


def best_ious(
    boxes: np.ndarray,
    sizes: np.ndarray,
    scales: Sequence[float],
    ratios: Sequence[float] = RATIOS,
    strides: Sequence[int] = STRIDES,
) -> np.ndarray:
    """The best IoU of each box with any anchor.

    The anchors are those of :class:`mmdet.models.task_modules.AnchorGenerator`: their
    centres lie on the corners of the stride's grid, from (0, 0) on. Of all anchors of
    one shape the one with the nearest centre is the best.

    Args:
        boxes: (N, 4) xyxy.
        sizes: (N, 2) height and width of each box's image.
        scales: Sides of the anchors, in strides.
        ratios: Height over width.
        strides: One for each level.

    Returns:
        (N,) float64.
    """
    boxes = boxes.astype(np.float64)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    best = np.zeros(len(boxes))
    for stride in strides:
        last = np.ceil(sizes[:, ::-1] / stride) - 1
        nearest = np.clip(np.rint(centers / stride), 0, last) * stride
        for scale in scales:
            for ratio in ratios:
                side = stride * scale
                half = np.array([side / np.sqrt(ratio), side * np.sqrt(ratio)]) / 2
                low = np.maximum(boxes[:, :2], nearest - half)
                high = np.minimum(boxes[:, 2:], nearest + half)
                common = np.clip(high - low, 0, None).prod(1)
                best = np.maximum(best, common / (area + side**2 - common))
    return best


def anchor_fit(
    boxes: np.ndarray,
    sizes: np.ndarray,
    labels: np.ndarray,
    classes: int,
    scales: Sequence[float],
    ratios: Sequence[float] = RATIOS,
    strides: Sequence[int] = STRIDES,
) -> AnchorFit:
    """Judge one choice of scales, see :class:`AnchorFit` and :func:`best_ious`."""
    ious = best_ious(boxes, sizes, scales, ratios, strides)
    by_class = tuple(
        float(ious[labels == c].mean()) if (labels == c).any() else float("nan")
        for c in range(classes)
    )
    return AnchorFit(
        tuple(float(scale) for scale in scales),
        float(np.nanmean(by_class)),
        by_class,
        float((ious >= 0.7).mean()),
        float((ious < 0.3).mean()),
    )


def suggest(
    boxes: np.ndarray,
    sizes: np.ndarray,
    labels: np.ndarray,
    classes: int,
    ratios: Sequence[float] = RATIOS,
    strides: Sequence[int] = STRIDES,
) -> list[AnchorFit]:
    """The best single scale, and the best two, half an octave apart.

    Best is the highest mean over the classes, as AP is one; scales of 1 to 10 strides
    are tried in steps of a half.
    """
    steps = np.arange(1, 10.5, 0.5)
    choices = [[(s,) for s in steps], [(s, s * 2**0.5) for s in steps]]
    return [
        max(
            (
                anchor_fit(boxes, sizes, labels, classes, scales, ratios, strides)
                for scales in group
            ),
            key=lambda fit: fit.mean,
        )
        for group in choices
    ]
