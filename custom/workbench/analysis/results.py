"""Join predictions in files with their ground truth, and evaluate them."""

from __future__ import annotations

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from tqdm import tqdm, trange

from custom.datasets.splits import Split
from custom.errors import InputError
from custom.evaluation.matching import ImageResult
from custom.evaluation.predictions import Predictions
from custom.workbench.labelled import LabelledSet


def labelled_images(cfg: Config, predictions: Predictions) -> BaseDataset:
    """The data set that a config evaluates on, with the images of the predictions.

    Args:
        cfg: Its ``test_dataloader.dataset`` says where the images are and how ground
            truth is loaded.
        predictions: Any that carry the names of the images.

    Raises:
        InputError: An image is not in the data set or has another size, or the classes
            differ.
    """
    init_default_scope("mmdet")
    names = tuple(sorted(image.name for image in predictions.images))
    split = predictions.info.get("split") or {"name": "images", "rule": "", "seed": 0}
    split = Split(**split, train=(), val=names)
    dataset = DATASETS.build(
        {**cfg.test_dataloader.dataset, "split": split, "subset": "val"}
    )
    classes = tuple(dataset.metainfo["classes"])
    if predictions.classes not in ((), classes):
        raise InputError(
            "predictions",
            f"their classes {predictions.classes} are not the data set's {classes}",
            "Evaluate with the config that they were made with",
        )
    sizes = {image.name: image.size for image in predictions.images}
    for i in range(len(dataset)):
        entry = dataset.get_data_info(i)
        size = entry["height"], entry["width"]
        if size != sizes[entry["name"]]:
            raise InputError(
                entry["img_path"],
                f"its size (H, W) is {size}, that of its predictions "
                f"{sizes[entry['name']]}",
                "Evaluate on the images that were predicted",
            )
    return dataset


def load_results(cfg: Config, predictions: Predictions) -> list[ImageResult]:
    """Predictions with their ground truth, one entry for each image, sorted by name.

    Args:
        cfg: Config of the run, see :func:`labelled_images`.
        predictions: As :func:`custom.evaluation.read_predictions` reads them; they say
            which images there are, so that no split is needed.
    """
    labelled = LabelledSet(labelled_images(cfg, predictions))
    by_name = {image.name: image for image in predictions.images}
    samples, count = labelled.select(), len(labelled)
    results = []
    for sample in tqdm(samples, "read masks", count, unit="image", delay=1):
        image = by_name[sample.name]
        results.append(
            ImageResult(
                **vars(image),
                gt=sample.masks,
                gt_labels=sample.labels,
                ignored=sample.ignored,
                path=sample.path,
            )
        )
    return sorted(results, key=lambda result: result.name)


def evaluate_predictions(cfg: Config, predictions: Predictions) -> dict[str, float]:
    """What ``tools/test.py`` prints for predictions, such as ``coco/segm_mAP_50``.

    Args:
        cfg: Its ``test_evaluator`` is used, on :func:`labelled_images`.
        predictions: Of labelled images.
    """
    dataset = labelled_images(cfg, predictions)
    by_name = {image.name: image for image in predictions.images}
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for i in trange(len(dataset), desc="evaluate", unit="image", delay=1, leave=False):
        sample = dataset[i]["data_samples"]
        image = by_name[sample.name]
        sample.pred_instances = InstanceData(
            labels=torch.from_numpy(image.labels),
            scores=torch.from_numpy(image.scores),
            bboxes=torch.from_numpy(image.boxes),
            masks=image.rles,
        )
        evaluator.process([sample])
    return evaluator.evaluate(len(dataset))
