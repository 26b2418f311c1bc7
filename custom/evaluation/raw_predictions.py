"""What a network says before any post-processing, for tuning it without the network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from custom.errors import InputError
from custom.io.whole_file import whole_file
from custom.structures import RoIMasks

FILE_NAME = "raw.npz"
# What counts as no threshold; the network's tail below it is noise without end.
SCORE_FLOOR = 1e-3


def raw_test_cfg(rcnn: ConfigDict, max_dets: int) -> ConfigDict:
    """The box head's ``test_cfg`` that keeps everything.

    No NMS, scores above :data:`SCORE_FLOOR`, the best ``max_dets`` of an image.
    """
    return ConfigDict(
        score_thr=SCORE_FLOOR,
        nms=None,
        max_per_img=max_dets,
        mask_thr_binary=rcnn.mask_thr_binary,
    )


@dataclass
class RawImage:
    """The raw predictions of one image; N detections, best score first.

    Attributes:
        img_id: The image's id in its data set.
        name: The image's name.
        size: (H, W) in pixels.
        labels: (N,) int64, from 0.
        scores: (N,) float32.
        boxes: (N, 4) float32, xyxy in pixels of the image.
        probs: (N, 28, 28) uint16, mask probabilities in units of 1/65535.
    """

    img_id: int
    name: str
    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    probs: np.ndarray

    def masks(self, threshold: float) -> RoIMasks:
        """The masks as the model gives them at a threshold."""
        probs = torch.from_numpy(self.probs.astype(np.float32) / 65535)
        return RoIMasks(probs, torch.from_numpy(self.boxes), self.size, threshold)


@dataclass
class RawPredictions:
    """The raw predictions of a set of images.

    Attributes:
        classes: Names of the classes.
        images: One entry for each image.
        info: As in :class:`Predictions`; also ``rcnn``, the ``test_cfg`` of the box
            head that the model has, and ``max_dets``, the most kept of an image.
    """

    classes: tuple[str, ...]
    images: list[RawImage]
    info: dict

    @classmethod
    def join(
        cls, parts: Sequence[RawPredictions], sources: Sequence[str | Path]
    ) -> RawPredictions:
        """Those of several models, such as the folds, each on images of its own.

        Args:
            parts: One or more.
            sources: Their files, for messages.

        Raises:
            InputError: Classes or settings differ, or an image is in two of them.
        """
        first = parts[0]
        seen: set[str] = set()
        for part, source in zip(parts, sources, strict=True):
            keys = ("rcnn", "max_dets")
            if part.classes != first.classes or any(
                part.info.get(key) != first.info.get(key) for key in keys
            ):
                raise InputError(
                    source,
                    f"its classes or test_cfg are not those of {sources[0]}",
                    "Join raw predictions of one config",
                )
            names = {image.name for image in part.images}
            if twice := names & seen:
                raise InputError(
                    source,
                    f"{min(twice)} is in another file too",
                    "Give each image once",
                )
            seen |= names
        images = [image for part in parts for image in part.images]
        return cls(first.classes, images, first.info)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        meta = {
            "info": self.info,
            "classes": self.classes,
            "images": [(i.img_id, i.name, i.size, len(i.scores)) for i in self.images],
        }
        columns = {
            key: np.concatenate([getattr(image, key) for image in self.images])
            for key in ("labels", "scores", "boxes", "probs")
        }
        with whole_file(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, meta=json.dumps(meta), **columns)

    @classmethod
    def load(cls, path: str | Path) -> RawPredictions:
        """Read a file.

        Raises:
            InputError: It is missing, damaged or of another form.
        """
        remedy = "Write it with tools/test.py CONFIG CHECKPOINT --raw"
        try:
            with np.load(path) as file:
                meta = json.loads(str(file["meta"]))
                columns = {
                    key: file[key] for key in ("labels", "scores", "boxes", "probs")
                }
        except FileNotFoundError:
            raise InputError(path, "the file does not exist", remedy) from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(path, f"no raw predictions ({error})", remedy) from None
        cuts = np.cumsum([count for *_, count in meta["images"]])[:-1]
        parts = {key: np.split(column, cuts) for key, column in columns.items()}
        images = [
            RawImage(img_id, name, tuple(size), *(parts[key][i] for key in columns))
            for i, (img_id, name, size, _) in enumerate(meta["images"])
        ]
        return cls(tuple(meta["classes"]), images, meta["info"])


@METRICS.register_module()
class RawDump(BaseMetric):
    """Write ``raw.npz``; it gives no figures.

    Args:
        out_dir: Folder of the file; ``tools/test.py`` gives a new one per call.
        info: See :class:`RawPredictions`.
    """

    default_prefix = "raw"

    def __init__(self, out_dir: str = "", info: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.out_dir, self.info = Path(out_dir), info or {}

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            pred = sample["pred_instances"]
            probs = torch.zeros(0, 28, 28)
            if len(pred["scores"]):
                probs = pred["masks"].probs.float().cpu()
            self.results.append(
                RawImage(
                    int(sample["img_id"]),
                    sample["name"],
                    tuple(sample["ori_shape"][:2]),
                    pred["labels"].cpu().numpy(),
                    pred["scores"].float().cpu().numpy(),
                    pred["bboxes"].float().cpu().numpy(),
                    (probs * 65535).round().numpy().astype(np.uint16),
                )
            )

    def compute_metrics(self, results: list[RawImage]) -> dict[str, float]:
        """Write the file."""
        path = self.out_dir / FILE_NAME
        RawPredictions(self.dataset_meta["classes"], results, self.info).save(path)
        print_log(f"Raw predictions of {len(results)} images: {path}", "current")
        return {}
