"""Read JSON files up to a size, also COCO's, and write them atomically."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.io.names import IGNORE

# Python needs some ten times as much memory as the text.
MAX_BYTES = 1 << 30
_REMEDY = "Export it again"
COCO_REMEDY = "See https://cocodataset.org/#format-data"


def read_json(path: str | Path, remedy: str = _REMEDY) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        remedy: What to do about a file that cannot be used.

    Raises:
        InputError: The file is missing, larger than 1 GiB, not JSON in UTF-8, nested
            too deep, or holds NaN or Infinity, which JSON does not have.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            reason = f"it has {size} bytes, more than {MAX_BYTES}"
            raise InputError(path, reason, "Divide it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", remedy) from None
    except OSError as error:
        raise InputError(path, f"it cannot be read ({error})", remedy) from None
    return parse_json(data, path, remedy)


def parse_json(data: bytes, source: str | Path, remedy: str = _REMEDY) -> Any:
    """The value of JSON text in UTF-8 from ``source``, see :func:`read_json`."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(source, f"not JSON ({error})", remedy) from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def read_coco_json(path: str | Path) -> tuple[list[str], list[dict]]:
    """The names of the categories and the images of a COCO JSON file.

    Returns:
        The names, and the rows of ``images`` in their order, each with ``annotations``:
        (class, segmentation) pairs, where the class of a crowd is ``ignore``.

    Raises:
        InputError: The file is not COCO JSON, or two images have one id.
    """
    data = read_json(path, COCO_REMEDY)
    try:
        names = {c["id"]: str(c["name"]) for c in data["categories"]}
        rows = {image["id"]: {**image, "annotations": []} for image in data["images"]}
        if len(rows) < len(data["images"]):
            raise ValueError("two images have one id")
        for row in rows.values():
            PurePosixPath(row["file_name"])
        for annotation in data["annotations"]:
            name = names[annotation["category_id"]]
            crowd = annotation.get("iscrowd", 0)
            mask = IGNORE if crowd else name, annotation.get("segmentation")
            rows[annotation["image_id"]]["annotations"].append(mask)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            path, f"not COCO JSON ({error!r})"[:300], COCO_REMEDY
        ) from None
    return list(names.values()), list(rows.values())


def write_json(data: object, path: str | Path, indent: int | None = None) -> None:
    """Write a JSON file atomically; with ``indent`` for people to read."""
    text = json.dumps(data, indent=indent)
    with write_atomically(path) as part:
        part.write_text(text if indent is None else text + "\n", encoding="utf-8")
