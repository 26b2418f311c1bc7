"""On a GPU: training steps, assignment and targets agree with the CPU; memory.

``pytest -m gpu -s`` prints a table of the dense steps.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import custom.models  # noqa: F401 (registers)
from custom.models import SparseMaxIoUAssigner
from custom.structures import LabelMasks

MODEL_FILES = Path(__file__).resolve().parents[2] / "configs" / "_base_" / "models"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]


def cells(count: int, side: int) -> LabelMasks:
    """About ``count`` discs on a grid."""
    rows = int(np.ceil(count**0.5))
    step = side // rows
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(y % step - step / 2, x % step - step / 2) < step * 0.4
    number = np.minimum(y // step, rows - 1) * rows + np.minimum(x // step, rows - 1)
    plane = np.where(inside & (number < count), number + 1, 0).astype(np.int32)
    return LabelMasks.from_label_images([plane])[0]


def batch(count: int, side: int) -> dict:
    """Two images and their samples."""
    samples = []
    for _ in range(2):
        masks = cells(count, side)
        meta = {"img_shape": (side, side), "ori_shape": (side, side)}
        sample = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
        sample.gt_instances = InstanceData(
            bboxes=masks.get_bboxes("hbox"),
            labels=torch.arange(len(masks)) % 4,
            masks=masks,
        )
        sample.ignored_instances = sample.gt_instances[:0]
        samples.append(sample)
    images = torch.randint(0, 255, (2, 3, side, side), dtype=torch.uint8)
    return {"inputs": list(images), "data_samples": samples}


def build(name: str, all_rois: bool) -> torch.nn.Module:
    """A model of configs/_base_/models; with all RoIs no random draw differs."""
    init_default_scope("mmdet")
    config = Config.fromfile(MODEL_FILES / f"{name}.py").model
    config.backbone.init_cfg = None
    for head in (config.roi_head.bbox_head, config.roi_head.mask_head):
        head.num_classes = 4
    if all_rois:
        config.train_cfg.rpn.sampler.num = config.train_cfg.rcnn.sampler.num = 1 << 20
    torch.manual_seed(0)
    return MODELS.build(config)


def train(name: str, device: str, dtype: str | None, data: dict) -> list[dict]:
    """The losses of two iterations, backward and optimiser step included."""
    model = build(name, True).to(device).train()
    torch.manual_seed(0)
    for parameter in model.parameters():  # the same weights on each device
        parameter.data = (torch.randn(parameter.shape) * 0.02).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    wrapper = (
        AmpOptimWrapper(dtype=dtype, optimizer=optimizer)
        if dtype
        else OptimWrapper(optimizer)
    )
    # TF32, a GPU's default for convolutions, has ten bits.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logs = [model.train_step(data, wrapper) for _ in range(2)]
    return [{k: v.item() for k, v in log.items()} for log in logs]


@pytest.mark.parametrize(
    ("dtype", "bound"), [(None, 2e-3), ("float16", 2e-2), ("bfloat16", 5e-2)]
)
def test_two_iterations_have_the_losses_of_the_cpu(dtype, bound):
    data = batch(16, 128)
    expected = train("mask-rcnn_r18-slim_fpn_cell", "cpu", None, data)
    result = train("mask-rcnn_r18-slim_fpn_cell", "cuda", dtype, data)
    for cpu, gpu in zip(expected, result, strict=True):
        assert gpu.keys() == cpu.keys()
        for name in cpu:
            if name.startswith("loss"):
                assert gpu[name] == pytest.approx(cpu[name], rel=bound, abs=bound)


def test_assignment_equals_the_cpu():
    torch.manual_seed(0)
    corner = torch.rand(20_000, 2) * 1000
    priors = torch.cat([corner, corner + torch.rand(20_000, 2) * 60], 1)
    boxes = priors[:300] + torch.rand(300, 4)
    results = []
    for device in ("cpu", "cuda"):
        results.append(
            SparseMaxIoUAssigner(0.7, 0.3, 0.3).assign(
                InstanceData(priors=priors.to(device)),
                InstanceData(
                    bboxes=boxes.to(device), labels=torch.zeros(300).long().to(device)
                ),
            )
        )
    for name in ("gt_inds", "max_overlaps", "labels"):
        cpu, gpu = (getattr(result, name) for result in results)
        assert torch.equal(gpu.cpu(), cpu), name


def test_targets_equal_the_cpu():
    masks = cells(300, 512)
    boxes = torch.from_numpy(masks.boxes()) + torch.rand(len(masks), 4) * 2 - 1
    inds = torch.arange(len(masks))
    on_cpu = masks.roi_align(boxes, inds, (28, 28))
    on_gpu = masks.roi_align(boxes.cuda(), inds.cuda(), (28, 28))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-5)


def test_syncs_do_not_grow_with_the_cells():
    """PyTorch itself reports each wait of the host in its sync debug mode."""
    counts = []
    for count in (20, 200):
        side, rng = 512, torch.Generator().manual_seed(0)
        gt = batch(count, side)["data_samples"][0].gt_instances.to("cuda")
        corner = torch.rand(2000, 2, generator=rng) * side
        priors = torch.cat([corner, corner + 20], 1).cuda()
        gt.bboxes = gt.bboxes.tensor
        assigner = SparseMaxIoUAssigner(0.5, 0.5, 0.5)
        gt.masks.roi_align(gt.bboxes, torch.arange(len(gt)).cuda(), (28, 28))
        with warnings_of_syncs() as seen:
            assigner.assign(InstanceData(priors=priors), gt)
            gt.masks.roi_align(
                gt.bboxes[:16], torch.zeros(16, dtype=torch.long).cuda(), (28, 28)
            )
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 16


@contextlib.contextmanager
def warnings_of_syncs():
    """Collect the warnings of CUDA operations that synchronise."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_memory_and_time_of_a_dense_step_of_the_baseline():
    """Prints a row for each number of cells; memory hardly depends on it."""
    peaks = {}
    for count in (50, 200, 400, 800):
        data = batch(count, 1024)
        model = build("mask-rcnn_r50_fpn_cell", False).cuda().train()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 1e-4))
        model.train_step(data, wrapper)
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        model.train_step(data, wrapper)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peaks[count] = torch.cuda.max_memory_allocated()
        print(f"| {count} cells, 2 x 1024² | {seconds:.3f} s | {peaks[count]:.3g} B |")
    assert peaks[800] < 1.5 * peaks[50]
