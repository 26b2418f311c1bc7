"""One run of a study, and what a step of each row costs."""

from __future__ import annotations

import gc
import resource
import statistics
import time

from mmengine.config import Config

from custom.engine import CellRunner
from custom.engine.runs import last_checkpoint
from custom.errors import InputError
from custom.workbench.study.scores import GroupScores
from custom.workbench.study.study import BASELINE, Row, Run, Study


def execute(study: Study, run: Run) -> dict:
    """Train and test one run, or test the trained model of another row.

    Returns:
        The line of the run: ``row, fold, seed``, ``steps``, ``metrics`` (segm AP of
        all images of the fold), ``groups`` (counts, see ``GroupScores``), ``seconds``
        of processor time, ``memory`` (MB, peak), ``parameters``.

    Raises:
        InputError: The trained model that is to be tested is missing.
    """
    row, cfg = study.rows[run.row], study.config(run)
    cfg.test_evaluator = [
        {"type": "CellCocoMetric", "max_dets": 1000, "iou_types": ("segm",)},
        {"type": "GroupScores", "groups": study.groups()},
    ]
    begin = time.process_time()
    if row.of is None:
        CellRunner.from_cfg(cfg).train()
    trained_at = time.process_time()
    trained = study.work_dir / study.training(run).folder
    if (checkpoint := last_checkpoint(trained)) is None:
        raise InputError(
            trained,
            f"{row.name} tests the model of a run that is not here",
            f"Delete the line of that run in {study.results} to train it again",
        )
    # A Runner of its own: MMEngine's test() calls before_run again, and EMAHook
    # forgets its averages then. The checkpoint has them.
    cfg.load_from = str(checkpoint[0])
    runner = CellRunner.from_cfg(cfg)
    metrics = runner.test()
    (scores,) = (m for m in runner.test_evaluator.metrics if isinstance(m, GroupScores))
    return {
        "row": run.row,
        "fold": run.fold,
        "seed": run.seed,
        "steps": 0 if row.of else study.steps_of(row),
        "metrics": _chosen(metrics),
        "groups": scores.counts,
        "seconds": [round(trained_at - begin), round(time.process_time() - trained_at)],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(p.numel() for p in runner.model.parameters()),
    }


def _chosen(metrics: dict[str, float]) -> dict[str, float]:
    """AP, AP50 and AP75 of all classes, and AP50 of each class."""
    chosen = {}
    for key, value in metrics.items():
        name = key.removeprefix("coco/segm_")
        if name in ("mAP", "mAP_50", "mAP_75") or name.startswith("mAP_50_class"):
            chosen[name] = round(value, 4)
    return chosen


class Stepper:
    """Takes training steps of a config one by one, at its base learning rate."""

    def __init__(self, cfg: Config) -> None:
        self.runner = CellRunner.from_cfg(cfg)
        loop = self.runner.train_loop
        self.runner.optim_wrapper = self.runner.build_optim_wrapper(cfg.optim_wrapper)
        self.runner.model.init_weights()
        self.runner.call_hook("before_run")
        self.runner.call_hook("before_train")
        self.runner.model.train()
        self.batches = iter(loop.dataloader)

    def step(self) -> tuple[float, float]:
        """Seconds of processor time of one step, loading included, and its loss."""
        begin = time.process_time()
        losses = self.runner.model.train_step(
            next(self.batches), optim_wrapper=self.runner.optim_wrapper
        )
        return time.process_time() - begin, losses["loss"].item()


def measure_cost(study: Study, row: Row, steps: int) -> dict[str, float]:
    """Seconds per step of the baseline and of a row, taken in turns.

    Contention for a processor slows both alike, so their ratio is what counts.

    Returns:
        ``baseline`` and ``row``, medians in seconds, and ``ratio``.
    """
    times: list[list[float]] = [[], []]
    baseline = study.rows[BASELINE]
    steppers = []
    for r in (baseline, row):
        cfg = study.config(Run(r.name, 0, baseline.seeds[0]), steps=study.steps)
        steppers.append(Stepper(cfg))
    for i in range(steps + 2):
        for stepper, measured in zip(steppers, times, strict=True):
            seconds, _ = stepper.step()
            if i >= 2:  # the first ones allocate
                measured.append(seconds)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    del steppers
    gc.collect()
    return {
        "baseline": round(statistics.median(times[0]), 3),
        "row": round(statistics.median(times[1]), 3),
        "ratio": round(ratio, 3),
    }
