"""How large a pixel is, as microscopes and programs write it into TIFF files."""

from __future__ import annotations

import math
import re
from pathlib import Path

import tifffile

from custom.io.image import is_tiff

_MICROMETRES = {
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "\\u00B5m": 1.0,  # as ImageJ writes it
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25_400.0,
}
_OF_UNIT_TAG = {2: 25_400.0, 3: 10_000.0}
# A resolution tag without more often is that of a screen or a printer: 72 dpi would
# be 353 µm. From a 100x oil lens to a 1x overview.
_PLAUSIBLE = 0.02, 20.0
# The sides of a pixel may differ by this share and still be one number.
_TOLERANCE = 0.01


def pixel_size(path: str | Path, page: int = 0) -> float | None:
    """The side of a pixel in micrometres, or None if the file does not say.

    In this order: Aperio's ``MPP``, OME's ``PhysicalSizeX`` and ``Y``, ImageJ's unit
    with the resolution tags, and the resolution tags alone if they are in inches or
    centimetres and give 0.02 to 20 µm. Pixels that are not square have no size.

    Args:
        path: A TIFF; other formats say nothing, because the resolution in a PNG or
            JPEG is that of a screen.
        page: Its page.
    """
    if not is_tiff(path):
        return None
    try:
        with tifffile.TiffFile(path) as file:
            sides = _sides(file, page)
    except Exception:  # metadata are optional; the pixels say whether the file is bad
        return None
    if sides is None or not all(0 < side < math.inf for side in sides):
        return None
    x, y = sides
    return math.sqrt(x * y) if abs(x / y - 1) <= _TOLERANCE else None


def _sides(file: tifffile.TiffFile, number: int) -> tuple[float, float] | None:
    page = file.pages[number]
    if file.is_svs:
        match = re.search(r"\bMPP\s*=\s*([0-9.eE+-]+)", file.pages[0].description)
        return (float(match[1]),) * 2 if match else None
    if file.is_ome:
        images = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        images = images if isinstance(images, list) else [images]
        pixels = images[number if len(images) > number else 0]["Pixels"]
        return tuple(
            float(pixels[f"PhysicalSize{axis}"])
            * _MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    counts = [page.tags[name].value for name in ("XResolution", "YResolution")]
    x, y = (denominator / numerator for numerator, denominator in counts)
    if file.is_imagej and (unit := (file.imagej_metadata or {}).get("unit")):
        return x * _MICROMETRES[unit], y * _MICROMETRES[unit]
    scale = _OF_UNIT_TAG[int(page.tags["ResolutionUnit"].value)]
    low, high = _PLAUSIBLE
    return (x * scale, y * scale) if low <= x * scale <= high else None
