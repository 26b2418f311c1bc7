"""The cells of one image, and their export to the formats of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from custom.errors import InputError
from custom.inference.measure import measure, summarize
from custom.inference.overlay import draw_overlay
from custom.inference.tiles import Detections
from custom.io.image import check_size
from custom.io.pixels import Pixels
from custom.structures.box_masks import BoxMasks
from custom.structures.polygons import geometry
from custom.structures.rle import to_json

if TYPE_CHECKING:
    import pandas as pd

Color = tuple[int, int, int]

# Cells that become RLE at once; bounds the memory of a slide's JSON.
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The N cells of one image, best score first.

    Cell i has the number i + 1 in label images, tables, GeoJSON and COCO JSON alike.

    Attributes:
        name: Of the image.
        image: Its pixels, read for overlays and intensities.
        boxes: (N, 4) float64, xyxy in pixels, as the network gives them.
        scores: (N,) float64 in 0..1.
        classes: (N,) int64, the class of each cell as an index to ``class_names``.
        masks: N masks, none of them empty; they may overlap.
        class_names: C names.
        palette: C RGB colours.
        mpp: Micrometres per pixel; None if not known.
        origin: (x, y) of the image's first pixel where it is a region of a larger one,
            else (0, 0).
        info: What the COCO JSON says of the model.
        file_name: The image's in the COCO JSON; empty: ``name``.
        channel_order: ``'rgb'`` or ``'bgr'``, as the file stores colours; empty: not
            judged. ``image`` has true colours where it is known.
        notes: What the user should know, in sentences.
        tiles: How many tiles were predicted, how many skipped because they show no
            tissue, and the seconds that the former took.
    """

    name: str
    image: Pixels
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: BoxMasks
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    mpp: float | None = None
    origin: tuple[int, int] = (0, 0)
    info: dict = field(default_factory=dict)
    file_name: str = ""
    channel_order: str = ""
    notes: tuple[str, ...] = ()
    tiles: tuple[int, int, float] = (0, 0, 0.0)

    def cells(self) -> Detections:
        """The cells without their image."""
        return Detections(self.boxes, self.scores, self.classes, self.masks)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image in pixels."""
        return self.masks.size

    def __len__(self) -> int:
        """The number of cells."""
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Segmentation({self.name!r}, {width}x{height}, {self.counts()})"

    def __getitem__(self, index: np.ndarray | slice) -> Segmentation:
        """Some of the cells: a mask (N,) bool, indices or a slice; numbered anew."""
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            masks=self.masks[index],
        )

    def above(self, score: float) -> Segmentation:
        """The cells with at least this score; the network does not run again."""
        return self[self.scores >= score]

    def of_classes(self, names: Sequence[str]) -> Segmentation:
        """The cells of some classes.

        Raises:
            InputError: The model lacks the class.
        """
        return self[np.isin(self.classes, [self._number(name) for name in names])]

    def _number(self, name: str) -> int:
        if name not in self.class_names:
            raise InputError(
                f"class {name}",
                "the model does not know it",
                f"Its classes are {', '.join(self.class_names)}",
            )
        return self.class_names.index(name)

    @cached_property
    def labels(self) -> np.ndarray:
        """(H, W) int32 label image: 0 is background, cell i has the value i + 1.

        Where cells overlap the one with the higher score is on top.

        Raises:
            InputError: The image has more than 2^27 pixels.
        """
        check_size(self.name, *self.size)
        return self.label_rows(0, self.size[0])

    @property
    def class_map(self) -> np.ndarray:
        """(H, W) uint8: 0 is background, k + 1 is class k; overlaps as in ``labels``.

        Raises:
            InputError: The image has more than 2^27 pixels.
        """
        return self.class_values[self.labels]

    @property
    def class_values(self) -> np.ndarray:
        """(N + 1,) of the values that ``labels`` have in ``class_map``."""
        dtype = np.min_scalar_type(len(self.class_names))
        return np.append(0, self.classes + 1).astype(dtype)

    def label_rows(self, y1: int, y2: int, name: str | None = None) -> np.ndarray:
        """Rows y1 to y2 of the label image, of one class or of all.

        Args:
            y1: First row.
            y2: One past the last row.
            name: Of the class; other cells neither show nor hide anything.

        Returns:
            (y2 - y1, W) int32, as ``labels``.
        """
        top, _, bottom, _ = self.masks.windows.T
        shown = (top < y2) & (bottom > y1)
        if name is not None:
            shown &= self.classes == self._number(name)
        return self.masks.paint(np.flatnonzero(shown)[::-1], (y1, y2))

    @cached_property
    def rles(self) -> list[dict]:
        """N COCO RLE dicts with bytes."""
        return self.masks.to_rle()

    def counts(self) -> dict[str, int]:
        """Cells of each class, in the order of the classes."""
        numbers = np.bincount(self.classes, minlength=len(self.class_names))
        return dict(zip(self.class_names, numbers.tolist(), strict=True))

    def features(self) -> Iterator[dict]:
        """The features of :meth:`to_geojson`, one by one."""
        x, y = self.origin
        for i, (top, left, mask) in enumerate(self.masks.patches()):
            label = self.classes[i]
            # As QuPath writes them from 0.4 on: QuPathTypeAdapters in its source.
            yield {
                "type": "Feature",
                "geometry": geometry(top + y, left + x, mask),
                "properties": {
                    "objectType": "detection",
                    "classification": {
                        "name": self.class_names[label],
                        "color": [int(c) for c in self.palette[label]],
                    },
                    "measurements": {
                        "cell": i + 1,
                        "score": round(float(self.scores[i]), 6),
                    },
                },
            }

    def to_geojson(self) -> dict:
        """A FeatureCollection that QuPath opens: detections with class, colour, score.

        Polygons run along the edges of pixels, in the frame of the whole image (see
        ``origin``): their areas are those of the masks.
        """
        return {"type": "FeatureCollection", "features": list(self.features())}

    def coco_head(self) -> dict:
        """``info, images`` and ``categories`` of :meth:`to_coco`."""
        height, width = self.size
        image = {
            "id": 1,
            "file_name": self.file_name or self.name,
            "height": height,
            "width": width,
            "origin": list(self.origin),
            "mpp": self.mpp,
        }
        names = enumerate(self.class_names, 1)
        return {
            "info": self.info,
            "images": [image],
            "categories": [{"id": i, "name": name} for i, name in names],
        }

    def annotations(self) -> Iterator[dict]:
        """The annotations of :meth:`to_coco`, one by one."""
        for start in range(0, len(self), _AT_ONCE):
            part = self[start : start + _AT_ONCE]
            boxes = part.boxes - np.tile(part.boxes[:, :2], 2) * [0, 0, 1, 1]
            columns = (
                boxes.round(2).tolist(),
                part.scores.tolist(),
                part.classes.tolist(),
                part.masks.areas.tolist(),
                part.masks.to_rle(),
            )
            rows = zip(*columns, strict=True)
            for i, (box, score, label, area, rle) in enumerate(rows, start + 1):
                yield {
                    "id": i,
                    "image_id": 1,
                    "category_id": label + 1,
                    "score": score,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": to_json(rle),
                }

    def to_coco(self) -> dict:
        """A COCO data set with scores, as ``predictions.json`` has it.

        Boxes are xywh, ``segmentation`` is RLE with str counts, in the frame of
        ``image``; the image's entry has ``origin`` and ``mpp`` too.
        """
        return {**self.coco_head(), "annotations": list(self.annotations())}

    def to_frame(self, radius: float = 100.0, radius_um: float = 50.0) -> pd.DataFrame:
        """A row for each cell, see :func:`custom.inference.measure.measure`."""
        return measure(self, radius, radius_um)

    def summary(self) -> dict:
        """Counts and densities, see :func:`custom.inference.measure.summarize`."""
        return summarize(self)

    def overlay(self, max_side: int | None = None) -> np.ndarray:
        """The image with contours; below it a legend and, if known, a scale bar.

        An image with a side below 160 pixels lacks the last two.

        Args:
            max_side: A larger image is drawn smaller, to this many pixels. Default:
                beyond 8,192 pixels it is drawn with 4,096.

        Returns:
            (h, w, 3) uint8 RGB; the image is its upper part.
        """
        return draw_overlay(self, max_side)
