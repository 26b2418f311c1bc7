"""The part of a detector that ONNX can express."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.structures import InstanceData
from torch import Tensor, nn

from custom.io.atomic import write_atomically

_OPSET = 17


class DensePart(nn.Module):
    """What a detector computes from the pixels alone: backbone, neck, RPN layers.

    The rest of Mask R-CNN depends on the proposals, for which ONNX's own operators do
    not suffice.

    Args:
        detector: The whole network.
    """

    def __init__(self, detector: TwoStageDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features, scores and box deltas, in this order, each of all levels.

        Args:
            image: (N, C, H, W) float32, normalised and padded by the detector's
                ``data_preprocessor``.
        """
        features = self.detector.extract_feat(image)
        scores, deltas = self.detector.rpn_head(features)
        return (*features, *scores, *deltas)


def write_onnx(path: str | Path, detector: TwoStageDetector) -> None:
    """Write the :class:`DensePart` as ONNX, atomically.

    Input ``image`` and outputs ``features0, ..., scores0, ..., deltas0, ...`` take any
    number of images of any size, the sides being multiples of the data preprocessor's
    ``pad_size_divisor``.

    Args:
        path: The file.
        detector: On the CPU, ready to predict.
    """
    part = DensePart(detector).eval()
    image = torch.zeros(1, len(detector.data_preprocessor.mean), 128, 128)
    with torch.no_grad(), write_atomically(path) as file:
        levels = range(len(part(image)) // 3)
        names = [f"{k}{i}" for k in ("features", "scores", "deltas") for i in levels]
        axes = {name: {0: "n", 2: f"h_{name}", 3: f"w_{name}"} for name in names}
        torch.onnx.export(
            part,
            (image,),
            str(file),
            input_names=["image"],
            output_names=names,
            dynamic_axes={"image": {0: "n", 2: "h", 3: "w"}, **axes},
            opset_version=_OPSET,
            dynamo=False,  # the other exporter needs onnxscript
        )


def predict_with(
    detector: TwoStageDetector,
    dense: Callable[[np.ndarray], Sequence[np.ndarray]],
    batch: dict,
) -> list[InstanceData]:
    """Predict images with the :class:`DensePart` computed elsewhere.

    Args:
        detector: The whole network, on the CPU; its layers after the dense part are
        used.
        dense: Takes what :meth:`DensePart.forward` takes and gives what it gives, for
            instance an ONNX Runtime session: ``lambda x: session.run(None, {"image":
            x})``.
        batch: What the detector's ``test_step`` takes.

    Returns:
        ``pred_instances`` of each image.
    """
    data = detector.data_preprocessor(batch, False)
    outputs = list(map(torch.from_numpy, dense(data["inputs"].numpy())))
    levels = len(outputs) // 3
    features, scores, deltas = (
        outputs[i * levels : (i + 1) * levels] for i in range(3)
    )
    proposals = detector.rpn_head.predict_by_feat(
        scores,
        deltas,
        batch_img_metas=[sample.metainfo for sample in data["data_samples"]],
        rescale=False,
    )
    return detector.roi_head.predict(
        tuple(features), proposals, data["data_samples"], rescale=True
    )
