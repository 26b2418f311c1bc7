"""What became of each cell and of each prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
# TIDE's bounds: from the first on a prediction is taken to mean the cell.
_BACKGROUND_IOU = 0.1
_COVERED = 0.5


@dataclass
class Outcomes:
    """The outcomes of one image.

    Attributes:
        cells: (G,) one of :data:`CELL_OUTCOMES`.
        cell_partners: (G,) int64, the prediction that the outcome is about, -1 for
            none.
        predictions: (P,) one of :data:`PREDICTION_OUTCOMES`.
        prediction_partners: (P,) int64, the cell that the outcome is about, -1 for
            none.
    """

    cells: np.ndarray
    cell_partners: np.ndarray
    predictions: np.ndarray
    prediction_partners: np.ndarray


def find_outcomes(found: ImageMatch) -> Outcomes:
    """Give every cell and every prediction exactly one outcome.

    The first that applies, for cells in the order of :data:`CELL_OUTCOMES`:

    * true: matched with a prediction of its class at mask IoU 0.5, see
      :class:`ImageMatch`;
    * wrong class: likewise, by the predictions and cells that are left, with one of
      another class;
    * split: two segments or more lie in the cell by more than half of their pixels,
      and together they cover more than half of it;
    * merged: a prediction covers more than half of this cell and of another one;
    * bad mask: a prediction that is neither true nor of a wrong class has IoU 0.1 or
      more with it;
    * missed: the rest.

    For predictions, in this order:

    * low score: below the threshold; it takes no part in anything else;
    * ignored: see :class:`ImageMatch`; likewise;
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
    They are asked for before bad masks, which they would be else. A cell that a
    neighbour's true prediction has swallowed is merged, the prediction stays true.
    """
    table, used = found.table, found.used
    iou, pair_used = table.iou, used[table.pred]
    n_cells, n_preds = len(table.gt_areas), len(table.pred_areas)
    cells = np.full(n_cells, "missed", "<U11")
    predictions = np.full(n_preds, "false", "<U11")
    cell_partners, prediction_partners = np.full(n_cells, -1), np.full(n_preds, -1)

    def pair(match: np.ndarray, outcome: str) -> None:
        pred = np.flatnonzero(match >= 0)
        cells[match[pred]] = predictions[pred] = outcome
        cell_partners[match[pred]], prediction_partners[pred] = pred, match[pred]

    pair(np.where(used, found.match, -1), "true")
    open_pair = (cells[table.gt] == "missed") & (predictions[table.pred] == "false")
    keep = open_pair & pair_used & (iou >= IOU_THR)
    pair(greedy_match(table, keep, found.result.scores), "wrong class")
    done_cell, done_pred = cells != "missed", predictions != "false"

    # Partner of what is left: the largest overlap. Pairs come from the smallest IoU
    # to the largest, so the last one stays.
    order = np.argsort(iou, kind="stable")
    order = order[pair_used[order] & (iou[order] >= _BACKGROUND_IOU)]
    gt, pred = table.gt[order], table.pred[order]
    of_pred = ~done_pred[pred]
    predictions[pred[of_pred]] = "bad mask"
    prediction_partners[pred[of_pred]] = gt[of_pred]
    of_both = of_pred & ~done_cell[gt]
    cells[gt[of_both]] = "bad mask"
    cell_partners[gt[of_both]] = pred[of_both]

    # From here on a later rule goes before an earlier one.
    covered = pair_used & (table.gt_share > _COVERED)
    count = np.bincount(table.pred[covered], minlength=n_preds)
    merging = covered & (count[table.pred] >= 2)
    gt, pred = table.gt[merging], table.pred[merging]
    of_cell = ~done_cell[gt]
    cells[gt[of_cell]], cell_partners[gt[of_cell]] = "merged", pred[of_cell]

    parts = found.segment_table
    part = parts.pred_share > _COVERED
    count = np.bincount(parts.gt[part], minlength=n_cells)
    cover = np.bincount(parts.gt[part], parts.pixels[part], n_cells)
    is_split = ~done_cell & (count >= 2) & (cover > _COVERED * parts.gt_areas)
    cells[is_split] = "split"
    part &= is_split[parts.gt]
    split_gt, split_pred = parts.gt[part], found.segment_of[parts.pred[part]]
    cell_partners[split_gt] = split_pred
    of_pred = ~done_pred[split_pred]
    predictions[split_pred[of_pred]] = "split"
    prediction_partners[split_pred[of_pred]] = split_gt[of_pred]

    of_pred = ~done_pred[pred]
    predictions[pred[of_pred]] = "merged"
    prediction_partners[pred[of_pred]] = gt[of_pred]

    again = pair_used & (iou >= IOU_THR) & done_cell[table.gt]
    again &= ~done_pred[table.pred]
    predictions[table.pred[again]] = "duplicate"
    prediction_partners[table.pred[again]] = table.gt[again]

    predictions[found.ignored] = "ignored"
    predictions[~found.confident] = "low score"
    return Outcomes(cells, cell_partners, predictions, prediction_partners)
