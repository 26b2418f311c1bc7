"""Assignment of one image: the stock MaxIoUAssigner against the sparse one.

The baseline's 261,888 anchors at 1024², and 2,000 proposals, on real cells tiled up to
50, 200 and 800 in a crop of 1024².

Example::

    python benchmarks/bench_assign.py --root data/hw3
"""

from __future__ import annotations

from common import ROOT, Case, parse_root, run_cases

# isort: split
import numpy as np
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from samples import entries, load_masks

from custom.models import SparseMaxIoUAssigner

SIDE, PROPOSALS, COUNTS = 1024, 2000, (50, 200, 800)


def real_boxes(root, count: int) -> torch.Tensor:
    """(count, 4) boxes of the densest region, repeated and shifted over the crop."""
    entry = max(entries(root), key=lambda e: sum(e["counts"]))
    boxes, rng = load_masks(entry).boxes(), np.random.default_rng(0)
    boxes = boxes[rng.integers(0, len(boxes), count)]
    extent = np.minimum(boxes[:, 2:] - boxes[:, :2], SIDE)
    corner = rng.random((count, 2)) * (SIDE - extent)
    return torch.from_numpy(np.hstack([corner, corner + extent]).astype(np.float32))


def settings() -> tuple[dict, dict, dict]:
    """The anchor generator and the assigners of both stages of the baseline."""
    model = Config.fromfile(ROOT / "configs" / "cell" / "maskrcnn_r50.py").model
    stages = (model.train_cfg[stage].assigner for stage in ("rpn", "rcnn"))
    rpn, rcnn = ({k: v for k, v in s.items() if k != "type"} for s in stages)
    return model.rpn_head.anchor_generator, rpn, rcnn


def anchors(generator: dict) -> torch.Tensor:
    """(261888, 4) anchors of a crop."""
    init_default_scope("mmdet")
    generator = TASK_UTILS.build(generator)
    sizes = [(SIDE // y, SIDE // x) for x, y in generator.strides]
    return torch.cat(generator.grid_priors(sizes, device="cpu"))


def proposals(boxes: torch.Tensor) -> torch.Tensor:
    """(2000, 4) boxes around cells and elsewhere, as an RPN gives them."""
    rng = torch.Generator().manual_seed(0)
    chosen = boxes[torch.randint(0, len(boxes), (PROPOSALS,), generator=rng)]
    noise = torch.randn(PROPOSALS, 4, generator=rng) * 6
    noisy = (chosen + noise).clamp(0, SIDE)
    noisy[:, 2:] = torch.maximum(noisy[:, 2:], noisy[:, :2] + 1)
    return noisy


def equal(stock, ours) -> bool:
    """Whether two results are equal to the bit."""
    names = ("gt_inds", "max_overlaps", "labels")
    return all(torch.equal(getattr(stock, n), getattr(ours, n)) for n in names)


def cases(root) -> list[Case]:
    """Both stages for each number of cells."""
    generator, rpn, rcnn = settings()
    result = []
    for stage, options in (("anchors", rpn), ("proposals", rcnn)):
        for count in COUNTS:

            def make(stage=stage, count=count):
                boxes = real_boxes(root, count)
                priors = anchors(generator) if stage == "anchors" else proposals(boxes)
                truth = InstanceData(bboxes=boxes, labels=torch.arange(count) % 4)
                return InstanceData(priors=priors), truth

            name = "261,888 anchors" if stage == "anchors" else "2,000 proposals"
            result.append(
                Case(
                    f"assign {name}, {count} cells",
                    make,
                    lambda data, o=options: MaxIoUAssigner(**o).assign(*data),
                    lambda data, o=options: SparseMaxIoUAssigner(**o).assign(*data),
                    count,
                    against="MaxIoUAssigner",
                    repeats=1 if stage == "anchors" else 15,
                    same=equal,
                    warm_up=lambda data: (data[0][:100], data[1][:2]),
                )
            )
    return result


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
