"""Rows against the row they change: differences with intervals and p-values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from custom.workbench.analysis.statistics import LEVEL, MIN_GROUPS, holm
from custom.workbench.study.scores import average_precision, dense
from custom.workbench.study.study import BASELINE, Row, Run, Study


@dataclass
class Comparison:
    """One line of the table.

    Attributes:
        row: The row.
        n_runs: Finished runs.
        folds: The folds of these runs.
        metrics: Mean over folds (of the mean over seeds) of each metric.
        difference: AP50 minus that of ``row.against`` on the same folds; NaN where
            there are no runs in common.
        changes: The same difference of each metric.
        low: Lower bound of its 95 % interval, NaN where there is none.
        high: Upper bound.
        p: Two-sided p-value; NaN without an interval.
        p_holm: Corrected for the number of rows.
        cost: Seconds of a step over the baseline's; None for a row that only tests.
        steps: Steps of a run.
        memory: Peak memory in MB, the largest of the runs.
        parameters: Of the model.
    """

    row: Row
    n_runs: int
    folds: tuple[int, ...]
    metrics: dict[str, float]
    difference: float = np.nan
    changes: dict[str, float] = field(default_factory=dict)
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    p_holm: float = np.nan
    cost: float | None = None
    steps: int = 0
    memory: int = 0
    parameters: int = 0


def compare(study: Study, lines: Mapping[Run, dict]) -> list[Comparison]:
    """Every row that has a finished run, in the order of the study."""
    of_row: dict[str, dict[Run, dict]] = defaultdict(dict)
    for run, line in lines.items():
        of_row[run.row][run] = line
    table = [
        _line(study, row, of_row) for row in study.rows.values() if of_row[row.name]
    ]
    for line, p in zip(table, holm([line.p for line in table]), strict=True):
        line.p_holm = float(p)
    return table


def _line(study: Study, row: Row, of_row: Mapping[str, dict]) -> Comparison:
    """One row of the table, without the correction for all rows."""
    runs = of_row[row.name]
    any_line = next(iter(runs.values()))
    result = Comparison(
        row,
        len(runs),
        tuple(sorted({run.fold for run in runs})),
        {name: _mean(runs, name) for name in any_line["metrics"]},
        cost=None if row.of else (row.cost or study.costs()[row.name]["ratio"]),
        steps=any_line["steps"],
        memory=max(line["memory"] for line in runs.values()),
        parameters=any_line["parameters"],
    )
    before = of_row[row.against]
    folds = sorted({r.fold for r in runs} & {r.fold for r in before})
    if row.name == BASELINE or not folds:
        return result
    runs, before = _on(runs, folds), _on(before, folds)
    for name in any_line["metrics"]:
        result.changes[name] = _mean(runs, name) - _mean(before, name)
    result.difference = result.changes["mAP_50"]
    same_models = row.of is not None and row.of in (
        row.against,
        study.rows[row.against].of,
    )
    error, df = standard_error(before, runs, same_models)
    if np.isfinite(error):
        margin = stats.t.ppf((1 + LEVEL) / 2, df) * error
        result.low, result.high = result.difference - margin, result.difference + margin
        t = result.difference / error if error else np.sign(result.difference) * np.inf
        result.p = float(2 * stats.t.sf(abs(t), df)) if result.difference else 1.0
    return result


def standard_error(
    before: Mapping[Run, dict], after: Mapping[Run, dict], same_models: bool
) -> tuple[float, float]:
    """Standard error of a difference of AP50, and its degrees of freedom.

    Two things would come out otherwise another time: which slides there are, and what
    the seed does. The first is the jackknife over the groups of each fold (Efron and
    Stein, Annals of Statistics 9, 586, 1981); the second is the variance among the
    seeds of one fold, pooled over both rows, over the number of runs. A row with one
    seed is judged by the seeds of the other. The degrees of freedom are the harmonic
    mean of the two, weighted by the variances (more careful than Satterthwaite's).

    Args:
        before: Runs and lines of the row that is compared with.
        after: Those of the other row, on the same folds.
        same_models: Whether both test the same trained models. Then it is the
            difference that varies among seeds; of one seed the result speaks about
            these models alone.

    Returns:
        NaN and 0 where there are fewer than five groups, or no seeds to judge by.
    """
    folds = sorted({run.fold for run in after})
    of_groups = of_seeds = squares = 0.0
    n_groups = df_seeds = 0
    for fold in folds:
        sides = [
            {run.seed: line for run, line in side.items() if run.fold == fold}
            for side in (before, after)
        ]
        if same_models:
            seeds = sides[0].keys() & sides[1].keys()
            sides = [{seed: side[seed] for seed in seeds} for side in sides]
        values = [[ap50(line) for line in side.values()] for side in sides]
        if same_models:
            values = [np.subtract(*values[::-1])]
        left_out = _without_each_group(sides[1]) - _without_each_group(sides[0])
        n_groups += (n := len(left_out))
        of_groups += (n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)
        for side in values:
            squares += np.var(side) * len(side)
            df_seeds += len(side) - 1
            of_seeds += 1 / len(side)
    if n_groups < MIN_GROUPS or not (df_seeds or same_models):
        return np.nan, 0
    of_groups /= len(folds) ** 2
    of_seeds *= squares / max(df_seeds, 1) / len(folds) ** 2
    total = of_groups + of_seeds
    if total == 0:
        return 0.0, n_groups
    df = total / (of_groups / (n_groups - len(folds)) + of_seeds / max(df_seeds, 1))
    return float(np.sqrt(total)), float(df)


def ap50(line: dict) -> float:
    """AP50 of all images of a run."""
    return line["metrics"]["mAP_50"]


def _without_each_group(lines: Mapping[int, dict]) -> np.ndarray:
    """(G,) AP50 of a fold without each of its groups, the mean over seeds."""
    values = []
    for line in lines.values():
        counts = dense(list(line["groups"].values()))
        rest = [part.sum(axis=0) - part for part in counts]
        values.append(np.nanmean(average_precision(*rest), axis=-1))
    return np.mean(values, axis=0)


def noise(lines: Mapping[Run, dict], row: str) -> tuple[float, int]:
    """Standard deviation of AP50 among the seeds of one fold, and its freedom."""
    values: dict[int, list[float]] = defaultdict(list)
    for run, line in lines.items():
        if run.row == row:
            values[run.fold].append(ap50(line))
    df = sum(len(v) - 1 for v in values.values())
    if not df:
        return np.nan, 0
    return float(np.sqrt(sum(np.var(v) * len(v) for v in values.values()) / df)), df


def _on(runs: Mapping[Run, dict], folds: list[int]) -> dict[Run, dict]:
    return {run: line for run, line in runs.items() if run.fold in folds}


def _mean(runs: Mapping[Run, dict], name: str) -> float:
    """Mean over folds of the mean over seeds; a class that a fold lacks is left out."""
    values = defaultdict(list)
    for run, line in runs.items():
        if (value := line["metrics"][name]) >= 0:
            values[run.fold].append(value)
    return float(np.mean([np.mean(v) for v in values.values()])) if values else np.nan
