"""COCO JSON, the format that every detection library reads: in and out.

The definition of the format is at https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import Annotated, Item, Source, Writer, check_names
from custom.io.atomic import write_atomically
from custom.io.json_file import COCO_REMEDY, read_coco_json, read_json, write_json
from custom.io.names import IGNORE, image_name
from custom.structures.box_masks import BoxMasks
from custom.structures.polygons import coco_rle, trace
from custom.structures.rle import to_json

ANNOTATIONS = "annotations.json"
_PARTS = "parts"


def find_coco(path: Path, images: Path | None = None) -> Source:
    """The images of a COCO JSON file, which is read as a whole.

    ``file_name`` starts from the folder ``images``, by default the file's own.

    Raises:
        InputError: The file is not COCO JSON, or it names an image outside the folder.
    """
    classes, rows = read_coco_json(path)
    items = [_item(path, row, images or path.parent) for row in rows]
    return Source(path, check_names(items), tuple(classes))


def _item(path: Path, row: dict, images: Path) -> Item:
    name = PurePosixPath(row["file_name"])
    if name.is_absolute() or ".." in name.parts or type(row["id"]) is not int:
        raise InputError(
            path, f"file_name {str(name)[:80]!r} or its id cannot be used", COCO_REMEDY
        )
    file = images / name
    if not file.is_file():
        raise InputError(
            path, f"there is no {name} in {images}", "Name their folder with --images"
        )
    size = row.get("height"), row.get("width")
    read = partial(read_coco, path, file, size, row["annotations"])
    return Item(image_name(name), (path, file), str(name), read, row["id"])


def read_coco(
    path: Path, image: Path, size: tuple, annotations: Sequence[tuple]
) -> Annotated:
    """Read one image.

    Polygons become pixels as everywhere in COCO, see
    :func:`custom.structures.polygons.fill`. Equal regions to ignore, such as one for
    each class, are one region. For the ``annotations`` see
    :func:`custom.io.json_file.read_coco_json`; ``size`` is the (H, W) that it states.

    Raises:
        InputError: The sizes differ, or a segmentation is malformed.
    """
    annotated = Annotated.of_file(path, image)
    if annotated.size != size:
        raise InputError(
            path,
            f"it says that {image} has the size (H, W) {size}, not {annotated.size}",
            "Check that image and annotation belong together",
        )

    def instances() -> Iterator[tuple[str, BoxMasks]]:
        crowds = set()
        for name, segmentation in annotations:
            if not segmentation:
                annotated.dropped["has no mask"] += 1
                continue
            try:
                rle = coco_rle(segmentation, annotated.size)
                mask = BoxMasks.from_rles([rle], annotated.size)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InputError(
                    path,
                    f"a mask of {image.name} is malformed ({error!r})"[:300],
                    COCO_REMEDY,
                ) from None
            if name == IGNORE:
                key = mask.windows.tobytes() + mask.bits.tobytes()
                if key in crowds:
                    continue
                crowds.add(key)
            yield name, mask

    annotated.extend(instances())
    return annotated


@dataclass(frozen=True)
class CocoWriter(Writer):
    """Writes ``annotations.json``, which names the images where they are.

    Args:
        classes: The categories, numbered from 1; others that occur follow.
        polygons: Outlines instead of RLE where an instance lacks holes. Both give back
            the same pixels.
    """

    classes: tuple[str, ...]
    polygons: bool = False

    def write(self, item: Item, annotated: Annotated, folder: Path) -> dict:
        """Write the part of one image; returns ``written`` for the manifest.

        Boxes are tight xywh, areas are in pixels, ``counts`` are str.

        Raises:
            InputError: The image is not a file that the JSON could name.
        """
        if item.image_file is None:
            raise InputError(
                item.files[0],
                "its images are not files, which COCO JSON needs",
                "Convert to the layout first",
            )
        masks = annotated.masks
        columns = annotated.classes, masks.patches(), masks.areas, masks.to_rle()
        annotations = [
            {
                "image_id": item.number,
                "category": name,
                "segmentation": self._segmentation(patch, rle),
                "bbox": [*patch[1::-1], *patch[2].shape[::-1]],
                "area": int(area),
                "iscrowd": int(name == IGNORE),
            }
            for name, patch, area, rle in zip(*columns, strict=True)
        ]
        image = {
            "id": item.number,
            "file_name": item.image_file,
            "height": annotated.size[0],
            "width": annotated.size[1],
        }
        (folder / _PARTS).mkdir(exist_ok=True)
        part = {"image": image, "annotations": annotations}
        write_json(part, folder / _PARTS / f"{item.name}.json")
        return {}

    def _segmentation(
        self, patch: tuple[int, int, np.ndarray], rle: dict
    ) -> dict | list:
        if self.polygons:
            parts = trace(*patch)
            if all(len(rings) == 1 for rings in parts):
                return [ring[:-1].ravel().tolist() for (ring,) in parts]
        return to_json(rle)

    def finish(self, out: Path, records: Sequence[dict]) -> None:
        """Join the parts, one in memory at a time."""
        occur = Counter(name for record in records for name in record["written"])
        names = list(dict.fromkeys([*self.classes, *sorted(occur)]))
        numbers = {n: i for i, n in enumerate((n for n in names if n != IGNORE), 1)}
        categories = [{"id": i, "name": n} for n, i in numbers.items()]
        images, total = [], 0
        with write_atomically(out / ANNOTATIONS) as path, path.open("w") as file:
            info = json.dumps({"description": "cells, written by MMCell"})
            file.write(f'{{"info": {info}, "annotations": [')
            for record in sorted(records, key=lambda record: record["name"]):
                part = read_json(out / record["outputs"][0])
                images.append(part["image"])
                for annotation in part["annotations"]:
                    name = annotation.pop("category")
                    # Evaluation looks at one class at a time: a region to ignore
                    # belongs to each.
                    every = numbers.values() if name == IGNORE else [numbers[name]]
                    for number in every:
                        total += 1
                        row = {"id": total, "category_id": number, **annotation}
                        file.write(", " * (total > 1) + json.dumps(row))
            file.write(f'], "categories": {json.dumps(categories)}')
            file.write(f', "images": {json.dumps(images)}}}')
