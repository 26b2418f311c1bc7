"""The sparse assigner gives what the stock one gives, to the bit."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from custom.errors import InputError
from custom.io.image import read_labels
from custom.models import SparseMaxIoUAssigner
from custom.models.assigner import candidate_pairs
from custom.structures import LabelMasks

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS = sorted(CONFIGS.rglob("_base_/models/*mask*.py"))
SIDE = 96  # pixels of the images below


def assigners(path: Path) -> list[dict]:
    """The assigner of each stage of a model, the RPN's first."""
    train = Config.fromfile(path).model.train_cfg
    stages = train.rcnn if isinstance(train.rcnn, list) else [train.rcnn]
    return [stage.assigner for stage in (train.rpn, *stages)]


@cache
def generators() -> dict[str, dict]:
    """The different anchor generators of all configs."""
    files = [p for p in CONFIGS.rglob("*.py") if "_base_" not in p.parts]
    results = {}
    for path in files:
        generator = Config.fromfile(path).model.rpn_head.anchor_generator
        results[repr(sorted(generator.items()))] = dict(generator)
    return results


def anchors(generator: dict, side: int = SIDE) -> Tensor:
    """(A, 4) anchors of an image of side x side, as the RPN gets them."""
    init_default_scope("mmdet")
    generator = TASK_UTILS.build(dict(generator))
    sizes = [(-(-side // y), -(-side // x)) for x, y in generator.strides]
    return torch.cat(generator.grid_priors(sizes, device="cpu"))


def random_boxes(count: int, rng: torch.Generator, side: int = SIDE) -> Tensor:
    """(count, 4): inside and outside, on whole numbers, empty, huge and repeated."""
    centre = (torch.rand(count, 2, generator=rng) * 1.6 - 0.3) * side
    extent = 2 ** (torch.rand(count, 2, generator=rng) * 8 - 1)
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], 1)
    kind = torch.randint(0, 5, (count, 1), generator=rng)
    boxes = torch.where(kind == 1, boxes.round(), boxes)
    boxes = torch.where(kind == 2, (boxes / 8).round() * 8, boxes)
    if count:
        boxes = torch.where(kind == 3, boxes[:1], boxes)
    return boxes


def assert_equal_to_stock(priors, boxes, ignore=None, **settings) -> None:
    """Both assigners, from the same state of the random numbers."""
    gt = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)) % 4)
    results = []
    for kind in (MaxIoUAssigner, SparseMaxIoUAssigner):
        torch.manual_seed(0)
        assigner = kind(**settings)
        results.append(
            assigner.assign(
                InstanceData(priors=priors),
                gt,
                None if ignore is None else InstanceData(bboxes=ignore),
            )
        )
    stock, ours = results
    assert ours.num_gts == stock.num_gts
    for name in ("gt_inds", "max_overlaps", "labels"):
        expected, got = getattr(stock, name), getattr(ours, name)
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected), name


RPN = {"pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3}
thresholds = st.sampled_from([0.0, 0.2, 0.5, 0.7])
options = st.fixed_dictionaries(
    {
        "pos_iou_thr": thresholds,
        "neg_iou_thr": st.one_of(thresholds, st.just((0.1, 0.4)), st.just(1)),
        "min_pos_iou": st.sampled_from([-1.0, 0.0, 0.3, 0.5]),
        "gt_max_assign_all": st.booleans(),
        "match_low_quality": st.booleans(),
        "ignore_iof_thr": st.sampled_from([-1, 0.3, 0.5]),
        "ignore_wrt_candidates": st.booleans(),
        "gpu_assign_thr": st.sampled_from([-1, 2]),
        "perm_repeat_gt_cfg": st.sampled_from([None, {"iou_thr": 0.9}]),
    }
)
counts = st.integers(0, 12)


@settings(deadline=None)
@given(options, counts, st.integers(0, 60), counts, st.integers(0, 2**32 - 1))
def test_any_boxes_with_any_settings(options, cells, proposals, regions, seed):
    rng = torch.Generator().manual_seed(seed)
    boxes, priors, ignore = (random_boxes(n, rng) for n in (cells, proposals, regions))
    # Proposals on cells make ties and IoUs of 1.
    priors[: len(boxes) // 2] = boxes[: min(len(priors), len(boxes) // 2)]
    if seed % 3 == 0 and len(ignore):
        ignore[0] = torch.tensor([-1e3, -1e3, 1e3, 1e3])  # everything is ignored
    assert_equal_to_stock(priors, boxes, ignore, **options)


@settings(deadline=None)
@given(options, st.data(), counts, st.integers(0, 2**32 - 1))
def test_the_anchors_of_every_config(options, data, cells, seed):
    generator = generators()[data.draw(st.sampled_from(sorted(generators())))]
    rng = torch.Generator().manual_seed(seed)
    priors = anchors(generator)
    if seed % 2:  # as `allowed_border` filters them
        priors = priors[torch.rand(len(priors), generator=rng) < 0.7]
    boxes, ignore = random_boxes(cells, rng), random_boxes(2, rng)
    assert_equal_to_stock(priors, boxes, ignore, **options)


def windows(folder: Path, side: int = 256):
    """(N, 4) boxes of the cells of a real region, of each window of side x side."""
    images = [read_labels(path) for path in sorted(folder.glob("class*.tif"))]
    masks = LabelMasks.from_label_images(images)[0]
    for y, x in np.ndindex(-(-masks.height // side), -(-masks.width // side)):
        corner = np.array([x, y]) * side
        size = (masks.width, masks.height)
        end = np.minimum(corner + side, size)
        cut = masks.crop(np.concatenate([corner, end]))
        yield torch.from_numpy(cut[cut.areas > 0].boxes())


@pytest.mark.parametrize(
    ("data", "regions"),
    [
        ("hw3_official", slice(0, 108, 36)),
        pytest.param("hw3", slice(None), marks=pytest.mark.slow),
        pytest.param("hw3_official", slice(None), marks=pytest.mark.slow),
    ],
)
def test_real_regions_in_every_stage(shared_data, data, regions):
    """The anchors and jittered boxes; the RPN, the R-CNN and those of a cascade."""
    folders = sorted((shared_data / data / "train").iterdir())[regions]
    every = {repr(kind): kind for path in MODELS for kind in assigners(path)}.values()
    stages = [{k: v for k, v in kind.items() if k != "type"} for kind in every]
    rpn = next(stage for stage in stages if stage["neg_iou_thr"] == 0.3)
    assert {0.5, 0.6, 0.7} <= {stage["pos_iou_thr"] for stage in stages}
    grid = anchors(Config.fromfile(MODELS[0]).model.rpn_head.anchor_generator, 256)
    rng = torch.Generator().manual_seed(0)
    for boxes in (boxes for folder in folders for boxes in windows(folder)):
        ignore = boxes[::9] + 3
        assert_equal_to_stock(grid, boxes, ignore, **rpn)
        priors = boxes.repeat(-(-1000 // max(len(boxes), 1)), 1)
        priors = priors + torch.randn(priors.shape, generator=rng) * 4
        for options in stages:
            assert_equal_to_stock(priors, boxes, ignore, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_and_types_of_boxes(dtype):
    rng = torch.Generator().manual_seed(3)
    priors, boxes = random_boxes(90, rng).to(dtype), random_boxes(9, rng).to(dtype)
    assert_equal_to_stock(priors, boxes, **RPN)
    assert_equal_to_stock(HorizontalBoxes(priors), HorizontalBoxes(boxes), **RPN)
    scored = torch.cat([priors, priors[:, :1]], 1)
    assert_equal_to_stock(scored, boxes, **RPN)


def test_coordinates_far_beyond_any_image():
    rng = torch.Generator().manual_seed(4)
    boxes, priors = random_boxes(20, rng, 90_000), random_boxes(200, rng, 90_000)
    priors[:20], priors[20] = boxes, torch.tensor([-1e9, -1e9, 1e9, 1e9])
    assert_equal_to_stock(priors, boxes, **RPN)


def test_candidates_are_hardly_more_than_the_pairs_that_overlap():
    """800 cells of 12 to 32 pixels and the baseline's 261,888 anchors of 1024²."""
    rng = torch.Generator().manual_seed(5)
    centre = torch.rand(800, 2, generator=rng) * 1024
    extent = torch.rand(800, 2, generator=rng) * 20 + 12
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], 1)
    config = Config.fromfile(CONFIGS / "cell" / "maskrcnn_r50.py")
    priors = anchors(config.model.rpn_head.anchor_generator, 1024)
    assert len(priors) == 261_888
    box, prior = candidate_pairs(boxes, priors)
    first, second = boxes[box], priors[prior]
    overlap = (first[:, :2] < second[:, 2:]) & (second[:, :2] < first[:, 2:])
    assert len(box) < 1.3 * int(overlap.all(1).sum())


class HostWaits(TorchDispatchMode):
    """Counts operations whose result has a size or value that the host must know."""

    NAMES = ("nonzero", "_local_scalar_dense", "masked_select", "_unique2", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        by_mask = name.startswith(("index", "_index")) and any(
            isinstance(x, Tensor) and x.dtype == torch.bool
            for x in tree_leaves(args[1:2])
        )
        sizes = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        self.count += name in self.NAMES or by_mask or sizes
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("ignore", [False, True])
def test_the_host_waits_no_more_often_for_more_cells(ignore):
    counts = {}
    for kind in (MaxIoUAssigner, SparseMaxIoUAssigner):
        for cells in (10, 100):
            rng = torch.Generator().manual_seed(6)
            gt = InstanceData(
                bboxes=random_boxes(cells, rng), labels=torch.zeros(cells)
            )
            gt.labels = gt.labels.long()
            priors = InstanceData(priors=random_boxes(500, rng))
            assigner = kind(**RPN, ignore_iof_thr=0.5 if ignore else -1)
            with HostWaits() as waits:
                assigner.assign(priors, gt, InstanceData(bboxes=random_boxes(3, rng)))
            counts[kind, cells] = waits.count
    assert counts[MaxIoUAssigner, 100] > counts[MaxIoUAssigner, 10] + 90
    expected = 6 if ignore else 3
    assert counts[SparseMaxIoUAssigner, 10] == expected
    assert counts[SparseMaxIoUAssigner, 100] == expected


def test_another_measure_of_overlap_is_refused():
    calculator = {"type": "BboxOverlaps2D", "dtype": "fp16"}
    with pytest.raises(InputError, match="stock MaxIoUAssigner"):
        SparseMaxIoUAssigner(0.5, 0.5, iou_calculator=calculator)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_model_uses_it_in_all_stages(path):
    kinds = {assigner["type"] for assigner in assigners(path)}
    assert kinds == {"SparseMaxIoUAssigner"}
