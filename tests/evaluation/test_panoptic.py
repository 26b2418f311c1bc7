import itertools
import math

import numpy as np
from hypothesis import given, settings

from custom.evaluation.iou_table import iou_table
from custom.evaluation.matching import match_image
from custom.evaluation.panoptic import aji, aji_plus, dice, pq_counts
from custom.structures import LabelMasks
from tests.cell_scenes import CLASSES, bitmaps, random_result
from tests.dense_masks import seeds


def counts_of(result, n_classes: int) -> np.ndarray:
    labels = result.result.labels[result.segment_of]
    return pq_counts(result.segment_table, result.result.gt_labels, labels, n_classes)


def segments_of(result) -> tuple[list[np.ndarray], list[np.ndarray]]:
    gt, _ = bitmaps(result.result)
    return list(gt), [result.segments.planes[0] == i for i in result.segments.ids]


def naive_pq(gt, segments, gt_labels, labels) -> list[tuple]:
    """Kirillov's PQ by its words: for each class all pairs of bitmaps."""
    rows = []
    for k in range(len(CLASSES)):
        cells = [m for m, label in zip(gt, gt_labels, strict=True) if label == k]
        results = [m for m, label in zip(segments, labels, strict=True) if label == k]
        ious = [(a & b).sum() / (a | b).sum() for a in cells for b in results]
        true = [iou for iou in ious if iou > 0.5]
        rows.append(
            (len(true), len(results) - len(true), len(cells) - len(true), sum(true))
        )
    return rows


def naive_aji(gt, segments) -> float:
    """Algorithm 1 of Kumar et al., line by line."""
    inter = union = 0
    used = set()
    for cell in gt:
        ious = [(cell & s).sum() / (cell | s).sum() for s in segments]
        if not ious or max(ious) == 0:
            union += cell.sum()
            continue
        best = ious.index(max(ious))
        inter += (cell & segments[best]).sum()
        union += (cell | segments[best]).sum()
        used.add(best)
    union += sum(s.sum() for i, s in enumerate(segments) if i not in used)
    return inter / union if union else math.nan


def naive_aji_plus(gt, segments) -> float:
    """The best of all assignments, tried one by one."""
    if len(gt) > len(segments):
        gt, segments = segments, gt
    ious = [[(a & b).sum() / (a | b).sum() for b in segments] for a in gt]
    best = max(
        itertools.permutations(range(len(segments)), len(gt)),
        key=lambda p: sum(ious[i][j] for i, j in enumerate(p)),
    )
    pairs = [(i, j) for i, j in enumerate(best) if ious[i][j] > 0]
    inter = sum((gt[i] & segments[j]).sum() for i, j in pairs)
    union = sum((gt[i] | segments[j]).sum() for i, j in pairs)
    alone = [gt[i] for i in range(len(gt)) if i not in {i for i, _ in pairs}]
    alone += [s for j, s in enumerate(segments) if j not in {j for _, j in pairs}]
    union += sum(m.sum() for m in alone)
    return inter / union if union else math.nan


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_metrics_equal_naive_ones(seed):
    matches = match_image(random_result(np.random.default_rng(seed)), 0.3)
    gt, segments = segments_of(matches)
    labels = matches.result.labels[matches.segment_of]
    np.testing.assert_allclose(
        counts_of(matches, len(CLASSES)),
        naive_pq(gt, segments, matches.result.gt_labels, labels),
    )
    np.testing.assert_allclose(aji(matches.segment_table), naive_aji(gt, segments))
    truth = np.any(gt, axis=0) if gt else np.zeros(matches.result.size, bool)
    covered = np.any(segments, axis=0) if segments else np.zeros_like(truth)
    total = truth.sum() + covered.sum()
    expected = 2 * (truth & covered).sum() / total if total else math.nan
    np.testing.assert_allclose(dice(matches), expected)


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_aji_plus_is_the_best_assignment(seed):
    rng = np.random.default_rng(seed)
    size = (12, 12)
    sides = []
    for _ in range(2):
        plane = np.zeros(size, np.int32)
        for i in range(rng.integers(0, 6)):
            y, x = rng.integers(0, 10, 2)
            plane[y : y + rng.integers(1, 7), x : x + rng.integers(1, 7)] = i + 1
        sides.append(LabelMasks.from_label_images([plane])[0])
    table = iou_table(*sides)
    gt, segments = (list(side.to_ndarray() > 0) for side in sides)
    np.testing.assert_allclose(aji_plus(table), naive_aji_plus(gt, segments))
