"""Results as files of other programs."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from pathlib import Path

from custom.inference.segmentation import Segmentation
from custom.workbench.predict.outputs import write_files

# Kinds of custom.workbench.predict.outputs, and what the page calls them.
KINDS = {
    "overlay": "Picture with contours (PNG)",
    "geojson": "Outlines for QuPath (GeoJSON)",
    "labels": "Label images for ImageJ and napari (TIFF, zipped)",
    "csv": "Measurements of each cell (CSV)",
    "coco": "Masks for programs (COCO JSON)",
}


def make_download(kind: str, found: Segmentation) -> tuple[str, bytes]:
    """The name and the content of a file; several files become one zip."""
    stem = re.sub(r"[^\w.-]+", "_", Path(found.name).stem, flags=re.ASCII)
    with tempfile.TemporaryDirectory(prefix="mmcell-") as folder:
        files = write_files(kind, found, Path(folder, f"cells_{stem}"))
        if len(files) == 1:
            return files[0].name, files[0].read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.name)
        return f"cells_{stem}_{kind}.zip", packed.getvalue()
