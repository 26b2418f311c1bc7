"""A folder of predictions that can be gone on with."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from custom.errors import InputError
from custom.io.atomic import remove_parts, write_atomically
from custom.io.image_inputs import ImageInput
from custom.io.json_file import read_json, write_json
from custom.workbench.predict.outputs import files_of

SETTINGS = "predict.json"
SUMMARY = "summary.csv"
# A record for each finished image, written after its files.
_RECORDS = ".finished"


class ResultFolder:
    """The results of one model with one set of settings.

    ``predict.json`` holds the settings. An image is finished when its record is there,
    which is written last, all files that it should have are there, and the image is
    still the one that was predicted. Several processes may write to a folder, each its
    own images.

    Args:
        root: The folder.
        kinds: What is written for each image, see ``outputs.KINDS``.
        class_names: The classes.
    """

    def __init__(
        self, root: Path, kinds: Sequence[str], class_names: Sequence[str]
    ) -> None:
        self.root, self.kinds = root, tuple(kinds)
        self.class_names = tuple(class_names)

    def base(self, image: ImageInput) -> Path:
        """Folder and name of an image's files."""
        return self.root / image.name

    def holds(self, path: str) -> bool:
        """Whether a path is in the folder."""
        return self.root.absolute() in Path(path).absolute().parents

    def begin(self, images: Sequence[ImageInput], settings: dict) -> None:
        """Make the folder, or make sure that it can be gone on with.

        What killed processes left half written is removed, so one process begins before
        any other writes.

        Args:
            images: All that are to be predicted.
            settings: What the results depend on; plain values.

        Raises:
            InputError: It has results of other settings or files of the same names, or
                cannot be written.
        """
        taken = [f for image in images for f in self._files(image) if f.exists()]
        settings = json.loads(json.dumps(settings))
        path = self.root / SETTINGS
        if path.exists():
            before = read_json(path)
            odd = [k for k in settings if before.get(k) != settings[k]]
            if odd:
                raise InputError(
                    self.root,
                    f"it holds results with {odd[0]} {before.get(odd[0])!r}, not "
                    f"{settings[odd[0]]!r}",
                    "Choose another folder",
                )
        elif taken:
            raise InputError(taken[0], "it exists already", "Choose another folder")
        else:
            write_json(settings, path)
        folders = {self.base(image).parent for image in images}
        for folder in {self.root, *folders}:
            if folder.is_dir():
                remove_parts(folder)

    def _files(self, image: ImageInput) -> list[Path]:
        base = self.base(image)
        return [
            f for kind in self.kinds for f in files_of(kind, base, self.class_names)
        ]

    def _record(self, image: ImageInput) -> Path:
        return self.root / _RECORDS / f"{image.name}.json"

    def is_finished(self, image: ImageInput) -> bool:
        """Whether nothing is left to do."""
        path = self._record(image)
        return (
            path.exists()
            and read_json(path)["image"] == _identity(image)
            and all(file.exists() for file in self._files(image))
        )

    def finish(self, image: ImageInput, summary: dict, files: Sequence[Path]) -> None:
        """Note that the files of an image are written.

        Args:
            image: The image.
            summary: Its row of ``summary.csv``.
            files: What was written.
        """
        names = [file.relative_to(self.root).as_posix() for file in files]
        # JSON has no NaN.
        row = {k: None if v != v else v for k, v in summary.items()}
        record = {"image": _identity(image), "summary": row, "files": names}
        write_json(record, self._record(image))

    def write_summary(self) -> None:
        """Write ``summary.csv``: a row for each image that is finished, also before.

        Processes that end at the same time each write what is finished by then, and
        look again whether it was all.
        """
        rows: list[dict] = []
        while True:
            records = sorted((self.root / _RECORDS).rglob("[!.]*.json"))
            found = [read_json(path)["summary"] for path in records]
            if found == rows:
                return
            rows = found
            with (
                write_atomically(self.root / SUMMARY) as part,
                part.open("w", newline="") as f,
            ):
                writer = csv.DictWriter(f, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


def _identity(image: ImageInput) -> dict:
    """The image that was predicted: its file, and whether it is still the same."""
    found = image.path.stat()
    return {
        "path": str(image.path.absolute()),
        "page": image.page,
        "bytes": found.st_size,
        "modified": found.st_mtime_ns,
    }
