"""The released test images with their official ids."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmdet.registry import DATASETS

from custom.datasets.cell import CellDataset
from custom.errors import InputError
from custom.io.image import image_size
from custom.io.json_file import read_json


@DATASETS.register_module()
class CellTestDataset(CellDataset):
    """Unlabelled images as ``test_image_name_to_ids.json`` lists them.

    Args:
        ann_file: The JSON list of ``{file_name, id, height, width}``.
        data_prefix: ``dict(img=...)``, the folder of the images.
        bad_files: ``'error'``, or ``'skip'`` to leave out images that are absent or
            cannot be read.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{"test_mode": True, **kwargs})

    def load_data_list(self) -> list[dict]:
        """Read the list and check each image against it.

        Raises:
            InputError: The list is not JSON, lacks keys, repeats names or ids, or an
                image is absent or of another size.
        """
        path, folder = self.ann_file, Path(self.data_prefix["img"])
        rows = {row["file_name"]: row for row in _read_list(path)}
        absent = [name for name in rows if not (folder / name).exists()]
        if absent and self.bad_files == "error":
            raise InputError(
                path,
                f"{len(absent)} of its {len(rows)} files are not in {folder}, for "
                f"example {absent[0]}",
                "Add them, or leave them out on purpose with --cfg-options "
                "submission_dataloader.dataset.bad_files=skip",
            )
        return self._index(
            list(rows), lambda name: self._row(folder / name, rows[name])
        )

    @staticmethod
    def _row(path: Path, row: dict) -> dict:
        size, listed = image_size(path), (row["height"], row["width"])
        if size != listed:
            raise InputError(
                path,
                f"its size (H, W) is {size}, the list of test images says {listed}",
                "Get the image again: a submission of another size is not scored",
            )
        return {
            "img_path": str(path),
            "img_id": row["id"],
            "name": path.name,
            "height": size[0],
            "width": size[1],
        }


def _read_list(path: str) -> list[dict]:
    """Read and check the list of test images."""
    remedy = "Use the test_image_name_to_ids.json of the release"
    rows = read_json(path, remedy)
    keys = {"file_name": str, "id": int, "height": int, "width": int}
    if not isinstance(rows, list) or not rows:
        raise InputError(path, "not a list of test images", remedy)
    for number, row in enumerate(rows):
        wrong = [
            key
            for key, kind in keys.items()
            if not isinstance(row, dict) or type(row.get(key)) is not kind
        ]
        if wrong:
            raise InputError(
                path, f"entry {number} lacks a valid {', '.join(wrong)}", remedy
            )
    for key in ("file_name", "id"):
        twice = [v for v, n in Counter(row[key] for row in rows).items() if n > 1]
        if twice:
            raise InputError(path, f"{key} {twice[0]!r} occurs twice", remedy)
    return rows
