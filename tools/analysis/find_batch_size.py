"""Measure the largest batch that fits into memory, on the densest training images.

Examples::

    python tools/analysis/find_batch_size.py configs/cell/maskrcnn_r50.py
    python tools/analysis/find_batch_size.py CONFIG --amp --limit-gb 20

A process of its own trains a few real steps of each batch size: optimiser state, frozen
layers, averaged weights and mixed precision are those of the config. The images are
drawn with the config's augmentation, and the draws with the most instances are taken,
so that few batches of an epoch are worse. Sizes are doubled until one does not fit, and
then tried in between until the answer is known to a fourth.

On a GPU the peak is what torch has reserved there. Without one it is that of the
process's memory; workers that load data come on top.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice

import psutil
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader
from tqdm import tqdm

from custom.engine.guards import is_out_of_memory
from custom.errors import InputError, run_tool

GIB = 1 << 30
STEPS = 3
# The share of the free memory that may be used: other batches need a little more.
SHARE = 0.9
# One draw of so many images, then more draws of those that had the most instances.
IMAGES, DENSEST, DRAWS = 200, 16, 8


@dataclass
class Measurement:
    """What a batch size needs.

    Attributes:
        size: Images of the batch.
        peak: Most memory in GiB; None if it ended before it could be told.
        limit: What there is for it, in GiB.
        seconds: Of one step, after the first.
        instances: Of the densest and of the sparsest image of the batch.
        pixels: (H, W) to which the batch is padded.
    """

    size: int
    peak: float | None
    limit: float
    seconds: float | None = None
    instances: tuple[int, int] | None = None
    pixels: tuple[int, int] | None = None

    @property
    def fits(self) -> bool:
        """Whether it may be used."""
        return self.peak is not None and self.peak <= self.limit


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--limit-gb",
        type=float,
        help=f"memory to use, in GiB; default: {SHARE:.0%}% of the free memory",
    )
    parser.add_argument("--most", type=int, default=64, help="the largest size to try")
    parser.add_argument(
        "--only", type=int, metavar="SIZE", help="measure one size and print JSON"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that replace the config's: key=value, lists as key=[a,b]",
    )
    args = parser.parse_args()
    if min(args.most, args.only or 1) < 1:
        parser.error("a batch has one image at least")
    return args


def main() -> None:
    """Measure sizes in processes of their own, and print a table."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    if args.only is not None:
        print(json.dumps(asdict(measure(cfg, args.only, args.limit_gb))))
        return
    print("batch    peak GiB  of GiB   s/step  instances  padded to")
    fitting = search(lambda size: measured(size, args.limit_gb), args.most)
    if not fitting:
        raise InputError(
            args.config,
            "not even one image fits",
            "Use a smaller crop_size or model, --amp, or a larger machine",
        )
    best = max(fitting, key=lambda m: m.size)
    print(
        f"\n{best.size} fit, the largest size that was tried and did: set "
        f"train_dataloader.batch_size={best.size}"
    )
    for line in learning_rate_hint(cfg, best.size):
        print(line)


def search(measure: Callable[[int], Measurement], most: int) -> list[Measurement]:
    """Double the size until one does not fit, and look between the last two.

    Args:
        measure: Measures a size.
        most: The largest size to try.

    Returns:
        Those that fit. The largest is at least four fifths of what would.
    """
    fitting: list[Measurement] = []
    least, too_much = 0, most + 1
    size = 1
    while True:
        result = measure(size)
        if result.fits:
            fitting.append(result)
            least = size
        else:
            too_much = size
        if too_much - least <= max(1, least // 4):
            return fitting
        size = min(2 * least, most)
        if not least < size < too_much:
            size = (least + too_much) // 2


def measured(size: int, limit: float | None) -> Measurement:
    """Measure a size in a process of its own, and print a row.

    Raises:
        InputError: The process ended for another reason than memory.
    """
    options = [*sys.argv[1:], "--only", str(size)]
    done = subprocess.run(
        [sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True
    )
    if done.returncode < 0:  # killed: by the system, which had no memory left
        result = Measurement(size, None, limit or 0.0)
    elif done.returncode:
        raise InputError(f"batch size {size}", "it cannot be measured", "See above")
    else:
        result = Measurement(**json.loads(done.stdout.splitlines()[-1]))
    if result.peak is None:
        print(f"{size:5}  out of memory", flush=True)
    else:
        print(
            f"{size:5}  {result.peak:10.2f}  {result.limit:6.2f}  "
            f"{result.seconds:7.2f}  {'{}-{}'.format(*result.instances):>9}  "
            f"{'{}x{}'.format(*result.pixels)}"
            + ("" if result.fits else "  more than the limit"),
            flush=True,
        )
    return result


def measure(cfg: Config, size: int, limit: float | None) -> Measurement:
    """Train a few steps of a batch size in this process.

    Args:
        cfg: The config.
        size: Images of the batch.
        limit: In GiB; None for a share of what is free now.
    """
    init_default_scope("mmdet")
    gpu = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    result = Measurement(size, None, limit or SHARE * free / GIB)
    set_random_seed(0)
    samples = densest(DATASETS.build(cfg.train_dataloader.dataset), size)
    counts = [len(sample["data_samples"].gt_instances) for sample in samples]
    result.instances = max(counts), min(counts)
    if not gpu:
        # Allocations fail then, and the machine does not end other processes.
        most = round(result.limit * GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        result.seconds, result.pixels = train(cfg, samples)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return result
    if gpu:
        result.peak = torch.cuda.max_memory_reserved() / GIB
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        result.peak = peak / GIB
    return result


def densest(dataset, size: int) -> list[dict]:
    """The samples with the most instances among many draws.

    Args:
        dataset: Training set with its augmentation.
        size: How many; the last one is the largest image, to which all are padded.
    """

    def instances(sample: dict) -> int:
        return len(sample["data_samples"].gt_instances)

    def area(sample: dict) -> int:
        return sample["inputs"].shape[-1] * sample["inputs"].shape[-2]

    indices = torch.randperm(len(dataset))[:IMAGES].tolist()
    draw = tqdm(indices, desc="draw", unit="image", delay=1, disable=None)
    counts = {index: instances(dataset[index]) for index in draw}
    dense = sorted(counts, key=counts.get, reverse=True)[:DENSEST]
    drawn = [dataset[index] for index in dense for _ in range(DRAWS)]
    drawn.sort(key=instances, reverse=True)
    samples = list(islice(cycle(drawn), size))
    largest = max(drawn, key=area)
    if size > 1 and area(largest) > max(map(area, samples)):
        samples[-1] = largest
    return samples


def train(cfg: Config, samples: Sequence[dict]) -> tuple[float, tuple[int, int]]:
    """Train steps on one batch; seconds of a step and the size of the padded batch."""
    cfg.model.backbone.init_cfg = None  # random weights need as much
    averages = [h for h in cfg.get("custom_hooks", ()) if h["type"] == "EMAHook"]
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            model=cfg.model,
            work_dir=folder,
            train_dataloader=DataLoader(
                list(samples) * STEPS, len(samples), collate_fn=pseudo_collate
            ),
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": STEPS},
            optim_wrapper=cfg.optim_wrapper,
            custom_hooks=averages,
            default_hooks={"checkpoint": None, "logger": None},
            log_level="ERROR",
            default_scope="mmdet",
        )
        steps = StepTimes()
        runner.register_hook(steps)
        runner.train()
    data = runner.model.data_preprocessor(pseudo_collate(samples), True)
    return min(steps.seconds[1:]), tuple(data["inputs"].shape[-2:])


class StepTimes(Hook):
    """Seconds of each step, until the device is done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train_iter(self, *args, **kwargs) -> None:
        """Note the time."""
        self.start = time.perf_counter()

    def after_train_iter(self, *args, **kwargs) -> None:
        """Note how long it took."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)


def learning_rate_hint(cfg: Config, size: int) -> list[str]:
    """What the batch means for the learning rate."""
    base = cfg.get("auto_scale_lr", {}).get("base_batch_size")
    rate = cfg.optim_wrapper.optimizer.get("lr")
    if not base or rate is None or size == base:
        return []
    ratio = size / base
    return [
        f"The learning rate {rate:g} is for batches of {base}.",
        f"Linear scaling (Goyal et al., arXiv:1706.02677), that of tools/train.py "
        f"--auto-scale-lr: {rate * ratio:.3g}.",
        f"Square root, for Adam and AdamW (Malladi et al., arXiv:2205.10287): "
        f"{rate * ratio**0.5:.3g}.",
    ]


if __name__ == "__main__":
    run_tool(main)
