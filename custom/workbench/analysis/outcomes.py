"""Name what happened to each cell and each prediction: true, missed, split, ...

Each has exactly one outcome. The rules are applied in this order, and the first that
applies decides. For cells:

* true: matched with a prediction of its class at mask IoU 0.5, see
  :class:`ImageMatch`;
* wrong class: matched in the same way with a prediction of another class, among
  the cells and predictions that are left;
* split: two segments or more lie in the cell by more than half of their pixels,
  and together they cover more than half of it;
* merged: a prediction covers more than half of this cell and of another one;
* bad mask: IoU 0.1 or more with a prediction that is left;
* missed: the rest.

For predictions:

* low score: below the threshold; ignored: see :class:`ImageMatch`. Neither takes
  part in anything else;
* true, wrong class: the other half of the cell's outcome;
* duplicate: IoU 0.5 or more with a cell that is true or of a wrong class;
* merged: it covers more than half of two cells or more;
* split: it is one of the segments of a cell that is split;
* bad mask: IoU 0.1 or more with a cell;
* false: the rest.

Wrong class, bad mask, duplicate, false and missed are the errors of TIDE (Bolya et
al., ECCV 2020, arXiv:2008.08115, section 2.2) with its thresholds 0.5 and 0.1; a
bad mask of a wrong class, TIDE's "both", is a bad mask here. Splits and merges are
those of Caicedo et al., Cytometry A 95, 952 (2019), who count them by coverage.
Splits and merges are tested before bad masks; otherwise most of them would count
as bad masks. A cell that a neighbour's true prediction covers is merged, and the
prediction stays true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom.evaluation.iou_table import IoUTable
from custom.evaluation.matching import IOU_THR, ImageMatch, greedy_match

CELL_OUTCOMES = ("true", "wrong class", "split", "merged", "bad mask", "missed")
PREDICTION_OUTCOMES = (
    "true",
    "wrong class",
    "duplicate",
    "merged",
    "split",
    "bad mask",
    "false",
    "ignored",
    "low score",
)
# TIDE's lower bound: from here on a prediction refers to the cell.
_BACKGROUND_IOU = 0.1
_COVERED = 0.5


@dataclass
class Outcomes:
    """The outcomes of one image.

    Attributes:
        cells: (G,) one of :data:`CELL_OUTCOMES`.
        cell_partners: (G,) int64, the prediction that it is about, -1 for none.
        predictions: (P,) one of :data:`PREDICTION_OUTCOMES`.
        prediction_partners: (P,) int64, the cell that it is about, -1 for none.
    """

    cells: np.ndarray
    cell_partners: np.ndarray
    predictions: np.ndarray
    prediction_partners: np.ndarray


def find_outcomes(match: ImageMatch) -> Outcomes:
    """Give every cell and every prediction its outcome by the rules of this module."""
    table, scores = match.table, match.result.scores
    cells = _Side(len(table.gt_areas), "missed")
    predictions = _Side(len(table.pred_areas), "false")
    predictions.set("low score", ~match.confident)
    predictions.set("ignored", match.confident & match.ignored)

    def pair(partners: np.ndarray, outcome: str) -> None:
        """Set both sides of (P,) partners, a cell or -1 for each prediction."""
        pred = np.flatnonzero(partners >= 0)
        cells.assign(outcome, partners[pred], pred)
        predictions.assign(outcome, pred, partners[pred])

    pair(np.where(match.used, match.match, -1), "true")
    near = table.iou >= IOU_THR
    free = cells.open[table.gt] & predictions.open[table.pred]
    pair(greedy_match(table, near & free, scores), "wrong class")

    used = match.used[table.pred]
    matched_cell = ~cells.open
    again = used & near & matched_cell[table.gt]
    merging = used & (table.gt_share > _COVERED)
    counts = np.bincount(table.pred[merging], minlength=len(scores))
    merging &= counts[table.pred] >= 2
    parts, split = _split_parts(match, cells.open)
    split_cells, split_preds = parts.gt[split], match.segment_of[parts.pred[split]]
    # By IoU: where several pairs are of one cell or prediction, the largest decides.
    order = np.argsort(table.iou, kind="stable")
    bad = order[(used & (table.iou >= _BACKGROUND_IOU))[order]]
    bad_of_cell = bad[predictions.open[table.pred[bad]]]

    cells.assign("split", split_cells, split_preds)
    cells.assign("merged", table.gt[merging], table.pred[merging])
    cells.assign("bad mask", table.gt[bad_of_cell], table.pred[bad_of_cell])
    predictions.assign("duplicate", table.pred[again], table.gt[again])
    predictions.assign("merged", table.pred[merging], table.gt[merging])
    predictions.assign("split", split_preds, split_cells)
    predictions.assign("bad mask", table.pred[bad], table.gt[bad])
    return Outcomes(
        cells.outcomes, cells.partners, predictions.outcomes, predictions.partners
    )


def confusion(
    outcomes: Outcomes, gt_labels: np.ndarray, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """Classes of cells against classes of predictions, for one image.

    Pairs are those with the outcomes true and wrong class, so that the diagonal holds
    the true positives of F1 and AP50; an optimal assignment without regard to class
    would show fewer where one cell has predictions of two classes.

    Returns:
        (C + 1, C + 1) int64, rows: class of the cell, columns: class of the
        prediction, last: background. A row adds up to the cells of its class, a column
        to its predictions without those ignored or below the score threshold.
    """
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    matched = np.isin(outcomes.cells, ("true", "wrong class"))
    column = np.full(len(gt_labels), n_classes)
    column[matched] = labels[outcomes.cell_partners[matched]]
    np.add.at(counts, (gt_labels, column), 1)
    alone = ~np.isin(
        outcomes.predictions, ("true", "wrong class", "ignored", "low score")
    )
    np.add.at(counts, (n_classes, labels[alone]), 1)
    return counts


class _Side:
    """The cells or the predictions of an image: outcomes are set once."""

    def __init__(self, count: int, rest: str) -> None:
        self.outcomes = np.full(count, rest, "<U11")
        self.partners = np.full(count, -1)
        self.open = np.ones(count, bool)

    def set(self, outcome: str, which: np.ndarray) -> None:
        """Set (count,) bool members without a partner."""
        self.outcomes[which], self.open[which] = outcome, False

    def assign(self, outcome: str, index: np.ndarray, partner: np.ndarray) -> None:
        """Set those of ``index`` that are still open; of several partners the last."""
        keep = self.open[index]
        index, partner = index[keep], partner[keep]
        self.outcomes[index], self.partners[index] = outcome, partner
        self.open[index] = False


def _split_parts(
    match: ImageMatch, open_cells: np.ndarray
) -> tuple[IoUTable, np.ndarray]:
    """The table of segments, and which of its pairs are the parts of a split cell."""
    table = match.segment_table
    inside = table.pred_share > _COVERED
    n_cells = len(open_cells)
    count = np.bincount(table.gt[inside], minlength=n_cells)
    covered = np.bincount(table.gt[inside], table.pixels[inside], n_cells)
    split = open_cells & (count >= 2) & (covered > _COVERED * table.gt_areas)
    return table, inside & split[table.gt]
