"""An output folder from which an interrupted prediction run can resume."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.io.atomic import remove_parts, write_atomically
from custom.io.json_file import read_json, write_json
from custom.workbench.predict.inputs import ImageInput
from custom.workbench.predict.outputs import files_of

_SETTINGS, _SUMMARY = "predict.json", "summary.csv"
# For each finished image a record, written after its files, and its cells.
_RECORDS = ".finished"
# Rows of tiles of images that are not finished.
_STRIPS = ".tiles"
Arrays = Mapping[str, np.ndarray]


class ResultFolder:
    """The results of one model with one set of settings.

    ``predict.json`` holds what the cells depend on. An image is finished when its
    record is there, which is written last, was made with the same ``written``, all its
    files are there, and the image is still the one that was predicted. Its cells are
    kept, so that other files, another pixel size or other class names do not need the
    network again. Several processes may write to a folder.

    Args:
        root: The folder.
        kinds: What is written for each image, see ``outputs.KINDS``.
        class_names: The classes.
        written: What the files depend on beside the cells; plain values.
    """

    def __init__(
        self,
        root: Path,
        kinds: Sequence[str],
        class_names: Sequence[str],
        written: Mapping,
    ) -> None:
        self.root, self.kinds, self.class_names = root, kinds, class_names
        self.written = _plain({**written, "class_names": class_names})

    def begin(self, images: Sequence[ImageInput], settings: dict) -> None:
        """Make the folder, or make sure that the run can resume in it.

        Temporary files of killed processes are removed.

        Args:
            images: All that are to be predicted.
            settings: What the cells depend on; plain values.

        Raises:
            InputError: The folder has results of other settings or files of the same
                names, or cannot be written.
        """
        settings, path = _plain(settings), self.root / _SETTINGS
        if path.exists():
            before = read_json(path)
            for name, value in settings.items():
                if before.get(name) != value:
                    raise InputError(
                        self.root,
                        f"it holds results with {name} {before.get(name)!r}, not "
                        f"{value!r}",
                        "Choose another folder",
                    )
        else:
            bases = [(kind, self.base(i)) for i in images for kind in self.kinds]
            for kind, base in bases:
                for file in filter(Path.exists, files_of(kind, base, self.class_names)):
                    raise InputError(file, "it exists already", "Choose another folder")
            write_json(settings, path)
        folders = {self.base(image).parent for image in images}
        hidden = [p for n in (_RECORDS, _STRIPS) for p in (self.root / n).rglob("*")]
        for folder in {self.root, self.root / _RECORDS, *folders, *hidden}:
            if folder.is_dir():
                remove_parts(folder)

    def base(self, image: ImageInput) -> Path:
        """Folder and name of an image's files."""
        return self.root / image.name

    def _record(self, image: ImageInput) -> Path:
        return self.root / _RECORDS / f"{image.name}.json"

    def _known(self, image: ImageInput) -> dict:
        """The record of an image that has not changed since, or an empty one."""
        path = self._record(image)
        record = read_json(path) if path.exists() else {}
        return record if record.get("image") == _identity(image) else {}

    def is_finished(self, image: ImageInput) -> bool:
        """Whether all files of an image are complete."""
        record = self._known(image)
        return (
            bool(record)
            and record["written"] == self.written
            and set(self.kinds) <= set(record["kinds"])
            and all((self.root / name).exists() for name in record["files"])
        )

    def cells(self, image: ImageInput, scale: float) -> Arrays | None:
        """The cells of an image that was predicted at a scale before."""
        path = self._record(image).with_suffix(".npz")
        if self._known(image).get("scale") != scale or not path.exists():
            return None
        return _load(path)

    def finish(
        self,
        image: ImageInput,
        summary: dict,
        files: Sequence[Path],
        cells: Arrays,
        scale: float,
    ) -> None:
        """Note that the files of an image are written, and keep its cells.

        Args:
            image: The image.
            summary: Its row of ``summary.csv``.
            files: What was written.
            cells: Its cells.
            scale: At which the network has seen it.
        """
        path = self._record(image)
        _save(path.with_suffix(".npz"), cells)
        record = {
            "image": _identity(image),
            # JSON does not have NaN.
            "summary": {k: None if v != v else v for k, v in summary.items()},
            "kinds": self.kinds,
            "written": self.written,
            "files": [file.relative_to(self.root).as_posix() for file in files],
            "scale": scale,
        }
        write_json(record, path)
        shutil.rmtree(self.root / _STRIPS / image.name, ignore_errors=True)

    def strip(
        self, image: ImageInput, row: int, predict: Callable[[], Arrays]
    ) -> Arrays:
        """A row of tiles of an unfinished image, predicted unless it is kept."""
        key = hashlib.sha256(json.dumps(_identity(image)).encode()).hexdigest()[:16]
        path = self.root / _STRIPS / image.name / f"{key}_{row}.npz"
        if path.exists():
            return _load(path)
        _save(path, strip := predict())
        return strip

    def write_summary(self) -> list[dict]:
        """Write ``summary.csv``, a row for each finished image; returns the rows.

        Processes that end at the same time each write what is finished by then, and
        look again whether it was all.
        """
        rows: list[dict] = []
        while True:
            records = sorted((self.root / _RECORDS).rglob("[!.]*.json"))
            now = [read_json(path)["summary"] for path in records]
            if now == rows:
                return rows
            rows = now
            columns = list(dict.fromkeys(name for row in rows for name in row))
            with (
                write_atomically(self.root / _SUMMARY) as part,
                part.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)


def _plain(settings: Mapping) -> dict:
    """Settings as they come back from JSON."""
    return json.loads(json.dumps(settings))


def _save(path: Path, arrays: Arrays) -> None:
    with write_atomically(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def _load(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged zip causes any error
        raise InputError(path, f"it is damaged ({error})", "Remove it") from None


def _identity(image: ImageInput) -> dict:
    """Values by which a changed image is recognised."""
    status = image.path.stat()
    return {
        "path": str(image.path.absolute()),
        "page": image.page,
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
    }
