"""The prediction file: the predictions of a set of images, and where they are from."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import mask as fast_mask
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from custom.errors import InputError
from custom.io.json_file import MAX_BYTES, parse_json, read_json, write_json
from custom.structures.rle import as_rles, decode_runs, to_json

FILE_NAME = "predictions.json"
_REMEDY = (
    "Give a predictions.json of tools/test.py, its folder, or a submission "
    "(test-results.json or submission.zip)"
)


@dataclass
class ImagePredictions:
    """The predictions of one image; N detections in the order of the file.

    Attributes:
        img_id: The image's id in its data set, or in the task.
        name: The image's name.
        size: (H, W) in pixels.
        labels: (N,) int64, from 0.
        scores: (N,) float64.
        boxes: (N, 4) float64, xyxy in pixels.
        rles: N COCO RLE dicts with bytes.
    """

    img_id: int
    name: str
    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    rles: list[dict]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_sample(cls, sample: dict) -> ImagePredictions:
        """The predictions of a data sample as the evaluator passes it to metrics.

        ``RoIMasks`` keep their RLE, so that several metrics encode a mask once.
        """
        pred = sample["pred_instances"]
        return cls(
            int(sample["img_id"]),
            str(sample.get("name", sample["img_id"])),
            tuple(sample["ori_shape"][:2]),
            pred["labels"].cpu().numpy().astype(np.int64),
            pred["scores"].cpu().numpy().astype(np.float64),
            pred["bboxes"].cpu().numpy().astype(np.float64),
            as_rles(pred["masks"]),
        )

    def rows(self) -> list[dict]:
        """N annotations as COCO has them: xywh boxes, categories from 1 on."""
        columns = self.xywh, self.scores, self.labels + 1
        return [
            {
                "image_id": self.img_id,
                "bbox": box,
                "score": score,
                "category_id": category,
                "segmentation": to_json(rle),
            }
            for box, score, category, rle in zip(
                *(column.tolist() for column in columns), self.rles, strict=True
            )
        ]

    def entries(self) -> list[dict]:
        """N entries of a submission, see :class:`custom.evaluation.Submission`."""
        return [
            {**row, "bbox": [round(v, 2) for v in row["bbox"]]} for row in self.rows()
        ]

    @property
    def xywh(self) -> np.ndarray:
        """(N, 4) float64, the boxes as COCO writes them."""
        return np.hstack([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]])


@dataclass
class Predictions:
    """The predictions of a set of images.

    Attributes:
        classes: Names of the classes in the order of the labels; empty where the file
            does not say (a submission).
        images: One entry for each image, also for those without detections.
        info: ``config``, ``checkpoint``, ``split`` (``name, rule, seed``, or None) and
            ``subset`` (``'val'`` or ``'test'``); empty for a submission.
    """

    classes: tuple[str, ...]
    images: list[ImagePredictions]
    info: dict = field(default_factory=dict)

    def entries(self) -> list[dict]:
        """The entries of a submission."""
        return [entry for image in self.images for entry in image.entries()]

    def save(self, path: str | Path) -> None:
        """Write a COCO data set with scores, atomically.

        Its parts are ``info, images, categories, annotations``; ``file_name`` is the
        image's name, category ids count from 1, boxes are xywh.

        Raises:
            InputError: The file exists.
        """
        path = Path(path)
        if path.exists():
            raise InputError(path, "it exists already", "Choose another folder")
        annotations: list[dict] = []
        for image in self.images:
            areas = fast_mask.area(image.rles).tolist() if image.rles else []
            for area, row in zip(areas, image.rows(), strict=True):
                annotations.append({"id": len(annotations) + 1, "area": area, **row})
        images = [
            {
                "id": i.img_id,
                "file_name": i.name,
                "height": i.size[0],
                "width": i.size[1],
            }
            for i in self.images
        ]
        categories = [{"id": i, "name": c} for i, c in enumerate(self.classes, 1)]
        write_json(
            {
                "info": self.info,
                "images": images,
                "categories": categories,
                "annotations": annotations,
            },
            path,
        )


@METRICS.register_module()
class PredictionDump(BaseMetric):
    """Write ``predictions.json``; computes no metrics.

    Args:
        out_dir: Folder of the file; ``tools/test.py`` gives a new one per call.
        info: See :class:`Predictions`.
    """

    default_prefix = "predictions"

    def __init__(self, out_dir: str = "", info: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.out_dir, self.info = Path(out_dir), info or {}

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        self.results += map(ImagePredictions.from_sample, data_samples)

    def compute_metrics(self, results: list[ImagePredictions]) -> dict[str, float]:
        """Write the file."""
        path = self.out_dir / FILE_NAME
        Predictions(tuple(self.dataset_meta["classes"]), results, self.info).save(path)
        print_log(f"Predictions of {len(results)} images written: {path}", "current")
        return {}


def read_predictions(
    path: str | Path, images: Sequence[dict] | None = None
) -> Predictions:
    """Read and check predictions.

    Args:
        path: A ``predictions.json``; a submission, as JSON list or zip; or a folder
            that holds one of them, such as ``<work dir>/<time>/``.
        images: For a submission the images that it covers, ``{id, file_name, height,
            width}`` as the release lists them. Without it these are the images that
            have a detection, named by their ids, with the sizes of their masks.

    Raises:
        InputError: The file is missing, of another form, or contradicts itself: an
            unknown image or category, a mask of another size or a broken one, a score
            or box that is not finite.
    """
    path = _locate(Path(path))
    data = _read_json(path)
    try:
        if isinstance(data, dict):
            return _from_coco(data, path)
        return _from_submission(data, images, path)
    except KeyError as error:
        raise InputError(path, f"an entry lacks {error}", _REMEDY) from None
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"not predictions: {error}", _REMEDY) from None


def _locate(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if path.is_dir():
        for name in (FILE_NAME, "test-results.json", "submission.zip"):
            if (path / name).is_file():
                return path / name
        raise InputError(path, f"it lacks a {FILE_NAME} or submission", _REMEDY)
    if not path.exists():
        raise InputError(path, "the file does not exist", _REMEDY)
    return path


def _read_json(path: Path) -> Any:
    try:
        if not zipfile.is_zipfile(path):
            return read_json(path, _REMEDY)
        with zipfile.ZipFile(path) as archive:
            (entry,) = archive.infolist()
            if entry.file_size > MAX_BYTES:
                raise InputError(path, "unpacked it is larger than 1 GiB", _REMEDY)
            data = archive.read(entry)
    except InputError:
        raise
    except Exception as error:  # a damaged or encrypted archive can end in any
        raise InputError(path, f"not JSON ({error})", _REMEDY) from None
    return parse_json(data, path, _REMEDY)


def _from_coco(data: dict, path: Path) -> Predictions:
    classes = tuple(str(row["name"]) for row in data["categories"])
    if [row["id"] for row in data["categories"]] != list(range(1, len(classes) + 1)):
        raise InputError(path, "its categories are not 1, 2, 3, ...", _REMEDY)
    images = _gather(data["images"], data["annotations"], len(classes), path)
    return Predictions(classes, images, dict(data["info"]))


def _from_submission(
    entries: list[dict], images: Sequence[dict] | None, path: Path
) -> Predictions:
    if not isinstance(entries, list):
        raise InputError(path, "it is neither an object nor a list", _REMEDY)
    if images is None:
        sizes = {e["image_id"]: e["segmentation"]["size"] for e in entries}
        images = [
            {"id": i, "file_name": str(i), "height": size[0], "width": size[1]}
            for i, size in sorted(sizes.items())
        ]
    return Predictions((), _gather(images, entries, None, path))


def _gather(
    rows: Sequence[dict], annotations: list[dict], classes: int | None, path: Path
) -> list[ImagePredictions]:
    """The annotations of each image as arrays, checked."""
    of_image: dict[int, list[dict]] = {row["id"]: [] for row in rows}
    names = {row["file_name"] for row in rows}
    if not len(of_image) == len(names) == len(rows):
        raise InputError(path, "it lists an image twice", _REMEDY)
    for annotation in annotations:
        if annotation["image_id"] not in of_image:
            raise InputError(
                path,
                f"image {annotation['image_id']!r} is not one of its images",
                _REMEDY,
            )
        of_image[annotation["image_id"]].append(annotation)
    return [_image(row, of_image[row["id"]], classes, path) for row in rows]


def _image(
    row: dict, entries: list[dict], classes: int | None, path: Path
) -> ImagePredictions:
    size = (int(row["height"]), int(row["width"]))
    labels = np.array([a["category_id"] for a in entries], np.int64) - 1
    scores = np.array([a["score"] for a in entries], np.float64)
    boxes = np.array([a["bbox"] for a in entries], np.float64).reshape(len(entries), 4)
    boxes[:, 2:] += boxes[:, :2]
    rles = [
        {"size": list(s["size"]), "counts": s["counts"].encode("ascii")}
        for s in (a["segmentation"] for a in entries)
    ]
    image = f"image {row['file_name']!r}"
    if len(entries) and (labels.min() < 0 or (classes and labels.max() >= classes)):
        raise InputError(path, f"{image} has an unknown category", _REMEDY)
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise InputError(
            path, f"{image} has a score or box that is not finite", _REMEDY
        )
    if any(tuple(rle["size"]) != size for rle in rles):
        raise InputError(
            path, f"{image} has a mask that is not of its size {size}", _REMEDY
        )
    try:
        decode_runs(rles)
    except ValueError as error:
        raise InputError(path, f"{image}: {error}", _REMEDY) from None
    return ImagePredictions(
        int(row["id"]), str(row["file_name"]), size, labels, scores, boxes, rles
    )
