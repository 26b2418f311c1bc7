"""A training step of the slim R18: FP32 against fused AdamW and BF16 convolutions.

Example::

    python benchmarks/bench_train_step.py --steps 20

Both train the demo's model on the same crops, in turns in one process of one thread,
from the same weights. Printed are the median processor time of a step, loading
included, images per second, and the mean loss of the steps. Needs the data of
studies/cells.py.
"""

from __future__ import annotations

import argparse
import statistics

import common  # noqa: F401  one thread
from mmengine.config import Config

from custom.workbench.study.runs import Stepper
from custom.workbench.study.study import Run, Study


def configs(study: Study) -> dict[str, Config]:
    """The study's baseline without and with what makes its step cheaper."""
    results = {}
    for name in ("FP32", "fused AdamW", "fused AdamW, BF16"):
        cfg = study.config(Run("baseline", 0, 42))
        cfg.optim_wrapper.optimizer.lr = 1e-4  # it has no warm-up here
        if name == "FP32":
            del cfg.optim_wrapper.optimizer["fused"]
        if "BF16" not in name:
            cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type != "BF16Hook"]
        results[name] = cfg
    return results


def main() -> None:
    """Take the steps and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="studies/cells.py")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    study = Study.load(args.study)
    steppers = {name: Stepper(cfg) for name, cfg in configs(study).items()}
    taken = {name: [] for name in steppers}
    for _ in range(args.steps + 2):
        for name, stepper in steppers.items():
            taken[name].append(stepper.step())
    print("| step | processor time (s) | images per second | mean loss |")
    print("|---|---|---|---|")
    for name, steps in taken.items():
        seconds = statistics.median(s for s, _ in steps[2:])
        loss = statistics.mean(value for _, value in steps)
        batch = study.cfg.train_dataloader.batch_size
        print(f"| {name} | {seconds:.3f} | {batch / seconds:.2f} | {loss:.4f} |")
    print("losses, step by step:")
    for name, steps in taken.items():
        print(f"  {name}: {' '.join(f'{value:.3f}' for _, value in steps)}")


if __name__ == "__main__":
    main()
