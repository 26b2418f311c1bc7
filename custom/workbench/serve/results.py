"""Keep the latest results in memory, and write them as files of other programs."""

from __future__ import annotations

import io
import re
import secrets
import tempfile
import time
import zipfile
from pathlib import Path

from custom.inference.segmentation import Segmentation
from custom.workbench.predict.outputs import write_files

#: Kinds of custom.workbench.predict.outputs, and what the page calls them.
KINDS = {
    "overlay": "Image with contours (PNG)",
    "geojson": "Outlines for QuPath (GeoJSON)",
    "labels": "Label images for ImageJ and napari (TIFF, zipped)",
    "csv": "Measurements of each cell (CSV)",
    "coco": "Masks for programs (COCO JSON)",
}


class Results:
    """Results in memory under keys that cannot be guessed.

    At most ``most`` are kept, the latest, and each for ``seconds``. Nothing is written
    to disk. To be used from one thread.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._results: dict[str, tuple[float, Segmentation]] = {}

    def add(self, result: Segmentation) -> str:
        """Keep a result and return its key."""
        self._expire()
        while len(self._results) >= self._most:
            del self._results[next(iter(self._results))]
        key = secrets.token_urlsafe(16)
        self._results[key] = time.monotonic() + self._seconds, result
        return key

    def get(self, key: str) -> Segmentation | None:
        """The result of a key; None if it is unknown or expired."""
        self._expire()
        return self._results.get(key, (0, None))[1]

    def _expire(self) -> None:
        now = time.monotonic()
        self._results = {k: v for k, v in self._results.items() if v[0] > now}


def make_download(kind: str, result: Segmentation) -> tuple[str, bytes]:
    """The name and the content of a file; several files become one zip."""
    stem = re.sub(r"[^\w.-]+", "_", Path(result.name).stem, flags=re.ASCII)
    with tempfile.TemporaryDirectory(prefix="mmcell-") as folder:
        files = write_files(kind, result, Path(folder, f"cells_{stem}"))
        if len(files) == 1:
            return files[0].name, files[0].read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.name)
        return f"cells_{stem}_{kind}.zip", packed.getvalue()
