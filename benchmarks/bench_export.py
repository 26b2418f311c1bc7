"""The exported ONNX part against the same layers in PyTorch.

Example::

    python benchmarks/bench_export.py

Random weights and noise as the image: the work of the layers does not depend on them,
that after them is bounded by 300 detections.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from common import ROOT, Case, run_cases

# isort: split
import numpy as np
import onnxruntime
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

import custom.models
import custom.transforms  # noqa: F401 (registers)
from custom.engine.configs import prediction_pipeline
from custom.models.dense_part import DensePart, predict_with, write_onnx

SIZE, DETECTIONS = 512, 300
NETWORKS = {
    "slim R18": "configs/demo/maskrcnn_r18-slim.py",
    "R50": "configs/cell/maskrcnn_r50.py",
}


def cases(folder: Path) -> list[Case]:
    """The layers of both networks, and a whole prediction of the small one.

    Args:
        folder: Where the ONNX files go.
    """
    return [case for name in NETWORKS for case in _cases(name, folder)]


def _cases(name: str, folder: Path) -> list[Case]:
    cfg = Config.fromfile(ROOT / NETWORKS[name])
    onnx = folder / f"{name}.onnx"

    def detector():
        init_default_scope("mmdet")
        torch.manual_seed(0)
        cfg.model.backbone.init_cfg = None
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=DETECTIONS)
        return MODELS.build(cfg.model).eval()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_onnx(onnx, detector())

    def make():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )
        _, *steps = prediction_pipeline(cfg)
        shape = (SIZE, SIZE)
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        sample = Compose(steps)({"img": noise, "img_shape": shape, "ori_shape": shape})
        network = detector()
        return {
            "batch": pseudo_collate([sample]),
            "pixels": torch.rand(1, 3, *shape),
            "network": network,
            "dense": DensePart(network),
            "onnx": lambda pixels: session.run(None, {"image": pixels}),
        }

    @torch.inference_mode()
    def dense(data):
        return [output.numpy() for output in data["dense"](data["pixels"])]

    def dense_onnx(data):
        return data["onnx"](data["pixels"].numpy())

    @torch.inference_mode()
    def whole(data):
        return data["network"].test_step(data["batch"])[0].pred_instances

    @torch.inference_mode()
    def whole_onnx(data):
        return predict_with(data["network"], data["onnx"], data["batch"])[0]

    def same_dense(one, other):
        return all(
            np.allclose(a, b, rtol=1e-4, atol=1e-4)
            for a, b in zip(one, other, strict=True)
        )

    def same(one, other):
        return len(one) == len(other) and all(
            torch.allclose(a, b, rtol=0, atol=tolerance)
            for a, b, tolerance in (
                (one.bboxes, other.bboxes, 0.05),
                (one.scores, other.scores, 1e-4),
                (one.masks.probs, other.masks.probs, 1e-3),
            )
        )

    size = f"{SIZE}x{SIZE}"
    rows = [
        ("backbone, neck, RPN layers", dense, dense_onnx),
        ("whole prediction", whole, whole_onnx),
    ]
    if name != "slim R18":
        rows = rows[:1]
    return [
        Case(
            f"{name}, {size}, {title}",
            make,
            stock,
            ours,
            DETECTIONS,
            against="PyTorch",
            same=same_dense if stock is dense else same,
            warm_up=lambda data: data,
        )
        for title, stock, ours in rows
    ]


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run_cases(cases(Path(scratch)))
