"""Ground truth and predictions of one image, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from tqdm import trange

from custom.evaluation.predictions import Predictions
from custom.structures import LabelMasks
from custom.workbench.analysis.offline import labelled_images


@dataclass
class ImageResult:
    """What is in an image and what was found in it; G cells and P predictions.

    Attributes:
        name: The image's name, unique among those that are analysed together.
        size: (H, W) in pixels.
        gt: G masks.
        gt_labels: (G,) int64, from 0.
        labels: (P,) int64, from 0.
        scores: (P,) float64 in 0..1.
        boxes: (P, 4) float64, xyxy in pixels.
        rles: P COCO RLE dicts with bytes; they may overlap.
        ignored: Regions of which nobody says what is in them, such as MoNuSAC's
            "Ambiguous", of any class; None for none. A prediction without a cell that
            has half of its pixels or more in them counts neither as true nor as false.
        path: The image file; empty where it is not known.
    """

    name: str
    size: tuple[int, int]
    gt: LabelMasks
    gt_labels: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    rles: list[dict]
    ignored: LabelMasks | None = None
    path: str = ""

    def coco_row(self, img_id: int) -> dict:
        """The image as ``average_precision`` takes it."""
        return {
            "img_id": img_id,
            "size": self.size,
            "gt_labels": self.gt_labels,
            "gt_rles": self.gt.to_rle(),
            "ignored_rles": [] if self.ignored is None else self.ignored.to_rle(),
            "labels": self.labels,
            "scores": self.scores,
            "boxes": self.boxes,
            "rles": self.rles,
        }


def load_results(cfg: Config, predictions: Predictions) -> list[ImageResult]:
    """Join predictions with their ground truth.

    Args:
        cfg: Config of the run, see
            :func:`custom.workbench.analysis.offline.labelled_images`.
        predictions: As :func:`custom.evaluation.read_predictions` reads them; they say
            which images there are, so that no split is needed.

    Returns:
        One entry for each image, sorted by name.

    Raises:
        InputError: See :func:`custom.workbench.analysis.offline.labelled_images`.
    """
    dataset = labelled_images(cfg, predictions)
    (loader,) = (
        TRANSFORMS.build(step)
        for step in cfg.test_dataloader.dataset.pipeline
        if step["type"] == "LoadLabelMasks"
    )
    found = {image.name: image for image in predictions.images}
    results = []
    for i in trange(
        len(dataset), desc="read masks", unit="image", delay=1, leave=False
    ):
        entry = loader(dataset.get_data_info(i))
        masks, ignore = entry["gt_masks"], entry["gt_ignore_flags"]
        image = found[entry["name"]]
        results.append(
            ImageResult(
                name=image.name,
                size=image.size,
                gt=masks[~ignore],
                gt_labels=entry["gt_bboxes_labels"][~ignore],
                labels=image.labels,
                scores=image.scores,
                boxes=image.boxes,
                rles=image.rles,
                ignored=masks[ignore] if ignore.any() else None,
                path=str(entry["img_path"]),
            )
        )
    return sorted(results, key=lambda result: result.name)
