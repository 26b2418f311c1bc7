"""Export to COCO JSON, the format that every detection library reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from custom.structures.rle import to_json

from .label_cache import read_label_masks


def coco_dataset(entries: Iterable[dict], classes: Sequence[str]) -> dict:
    """Describe labelled images and their instances as a COCO data set.

    One image is held in memory at a time. The definition of the format is at
    https://cocodataset.org/#format-data.

    Args:
        entries: What :class:`custom.datasets.CellDataset` gives for its images:
            ``img_id, name, height, width`` and ``label_files``.
        classes: Names of the classes in the order of the labels.

    Returns:
        A dict with ``images``, whose ``file_name`` is ``<image>/image.tif``,
        ``categories``, numbered from 1, and ``annotations`` with compressed RLE
        whose ``counts`` are str, tight xywh boxes and areas in pixels.

    Raises:
        InputError: See :func:`custom.io.label_cache.read_label_masks`.
    """
    images, annotations = [], []
    for entry in entries:
        size = (entry["height"], entry["width"])
        images.append(
            {
                "id": entry["img_id"],
                "file_name": f"{entry['name']}/image.tif",
                "height": size[0],
                "width": size[1],
            }
        )
        masks, labels = read_label_masks(entry["label_files"], size)
        boxes = masks.boxes()
        boxes[:, 2:] -= boxes[:, :2]
        for label, rle, box, area in zip(
            labels.tolist(),
            masks.to_rle(),
            boxes.tolist(),
            masks.areas.tolist(),
            strict=True,
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": entry["img_id"],
                    "category_id": label + 1,
                    "segmentation": to_json(rle),
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": "cells, written by MMCell"},
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": annotations,
    }


def write_json(data: dict, path: str | Path) -> None:
    """Write a JSON file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(data))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
