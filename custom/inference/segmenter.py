"""Segmenter: a trained model as a function from an image to its cells."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from custom.errors import InputError
from custom.inference.fusion import best_class
from custom.inference.segmentation import Color, Segmentation
from custom.inference.tiles import Detections, TileGrid, TileMerger
from custom.inference.tissue import TissueMask, judge_colours
from custom.io.pixels import ArrayPixels, PartPixels, Pixels, read_scaled
from custom.io.slide import open_image
from custom.structures import RoIMasks

TILE_SIZE = 768
# Score threshold of a model that had no validation.
SCORE_THR = 0.5
# Images up to this many pixels are read once; of larger ones the parts that are needed.
_IN_MEMORY = 1 << 26
# Pixel sizes whose logarithms differ by less are the same: no image is resampled for
# the 0.2465 to 0.2525 µm of scanners at 40x.
_SAME_MPP = 0.1
# (N, 4) boxes, (N,) scores, (N,) labels and N masks in the frame of one tile.
TileResult = tuple[np.ndarray, np.ndarray, np.ndarray, RoIMasks]
# The detections of one row of tiles, as arrays for a file.
Strip = dict[str, np.ndarray]


class Network(Protocol):
    """The model interface that a :class:`Segmenter` needs.

    Attributes:
        classes: Names of the classes.
        palette: Their RGB colours.
        tile: Side of a tile that the model asks for and its overlap, in pixels; None
            where it asks for none.
        max_value: The value of a 16-bit image that becomes 255.
        mpp: Micrometres per pixel of the training images; None if not known.
        channel_order: How the files of the training images store colours, ``'rgb'`` or
            ``'bgr'`` (red and blue exchanged). The network itself sees true colours.
            None: as stored, whatever that is.
        info: Where the model is from; ``digest`` changes with the weights and settings,
            ``score_thr`` gave the best F1 in validation.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    tile: tuple[int, int] | None
    max_value: int
    mpp: float | None
    channel_order: str | None
    info: dict

    def __call__(self, tiles: list[np.ndarray]) -> Iterable[TileResult]:
        """Predict (h, w, 3) uint8 RGB tiles."""


@dataclass
class Scene:
    """An image that is ready to be predicted.

    Attributes:
        name: Of its results.
        file: The image as it is stored, or its open file.
        image: Its pixels, in true colours where the model knows them.
        grid: The tiles, in pixels of the image.
        scale: The network's pixels per pixel of the image.
        mpp: Micrometres per pixel; None if not known.
        origin: (x, y) of the first pixel in the file.
        tissue: Which tiles are predicted; None: all.
        channel_order: ``'rgb'`` or ``'bgr'``, as stored; empty: not judged.
        notes: What the user should know, in sentences.
    """

    name: str
    file: Pixels
    image: Pixels
    grid: TileGrid
    scale: float
    mpp: float | None
    origin: tuple[int, int]
    tissue: TissueMask | None
    channel_order: str
    notes: list[str]

    @property
    def rows(self) -> int:
        """The number of rows of tiles."""
        return len(self.grid.rows)


def validated_score_thr(info: dict) -> float:
    """The score threshold of a model's best F1 in validation, 0.5 if it names none."""
    value = info.get("score_thr")
    return value if isinstance(value, float) and 0 <= value <= 1 else SCORE_THR


def _check_settings(
    score_thr: float | str | None,
    channel_order: str,
    max_value: int | None,
    batch_size: int,
) -> None:
    given = 0.5 if isinstance(score_thr, str) else score_thr or 0
    for name, value, valid, choices in (
        ("score threshold", score_thr, 0 <= given <= 1, "0 to 1"),
        ("channel order", channel_order, channel_order in ("auto", "rgb", "bgr"),
         "auto, rgb or bgr"),
        ("largest value", max_value, max_value is None or 1 <= max_value <= 65_535,
         "1 to 65535"),
        ("batch size", batch_size, batch_size >= 1, "1 or more"),
    ):  # fmt: skip
        if not valid:
            raise InputError(name, f"{value} is not possible", f"Choose {choices}")


class Segmenter:
    """A trained model that segments the cells of images.

    Examples:
        ``run`` is a run folder, such as ``work_dirs/maskrcnn_r50``; an image may be an
        array or the path of a file.

        >>> from custom.inference import Segmenter
        >>> from custom.sample import sample
        >>> image, _ = sample()
        >>> cells = Segmenter(run, score_thr=None)(image, mpp=0.25)
        >>> cells.size, len(cells.to_frame()) == len(cells) > 0
        ((320, 320), True)
        >>> cells.overlay().shape[1], len(cells.masks.to_rle()) == len(cells.scores)
        (320, True)

    Args:
        model: A run folder (its newest config and its best checkpoint, or else its
            last), an exported file, a config if ``checkpoint`` is given, or a
            :class:`Network`. A config is Python code and runs; of an exported file
            nothing runs.
        checkpoint: The weights for a config.
        score_thr: Cells below this score are left out. ``'auto'``: the threshold that
            gave the best F1 in the model's validation, 0.5 if it does not say. None:
            what the model's own thresholds leave, for instance to choose later by
            ``above``.
        tile: Side of a tile in pixels; a larger image is predicted tile by tile.
            Default: the model's, or 768.
        overlap: Pixels that tiles share; default: the model's, or a fourth of the tile.
        batch_size: Tiles that go through the network at once.
        max_value: The value of a 16-bit image that becomes 255; default: the model's.
        channel_order: How files store colours: ``'rgb'``, ``'bgr'`` (red and blue
            exchanged), or ``'auto'``: as their pixels look, see
            :func:`custom.io.colours.channel_order_of`.
        tissue: Leave out tiles without tissue; None: of slides and pyramids.
        one_class: Of one cell that is detected in two classes keep the better.
        class_names: Other names for the model's classes, in their order.
        options: Settings that replace the config's, as ``--cfg-options`` gives them.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``; default: the GPU if there is one.
        amp: Half precision, on a GPU.
        tta: Test-time augmentation.

    Attributes:
        class_names: Names of the classes.
        palette: Their RGB colours.
        tile, overlap: As above, what is in use, in pixels of the network.
        mpp: Micrometres per pixel that the network expects; None if not known. Images
            of another known size are brought to it, results are in their own pixels.
        info: Where the model is from, see :class:`Network`.

    Raises:
        InputError: The model does not exist, the file is damaged, no checkpoint or one
            for other classes or another network, or wants to run code.
    """

    def __init__(
        self,
        model: str | Path | Network,
        checkpoint: str | Path | None = None,
        *,
        score_thr: float | str | None = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        batch_size: int = 1,
        max_value: int | None = None,
        channel_order: str = "auto",
        tissue: bool | None = None,
        one_class: bool = True,
        class_names: Sequence[str] | None = None,
        options: dict | None = None,
        device: str | None = None,
        amp: bool = False,
        tta: bool = False,
    ) -> None:
        _check_settings(score_thr, channel_order, max_value, batch_size)
        if isinstance(model, str | Path):
            # The one place of custom.inference that needs MMDetection's registries:
            # only they make a network of a config. Everything else here runs without.
            from custom.inference.trained_model import TrainedModel, read_model

            exported = read_model(model, checkpoint, options)
            if isinstance(score_thr, str):
                score_thr = validated_score_thr(exported.info)
            model = TrainedModel(
                exported, device=device, amp=amp, score_thr=score_thr, tta=tta
            )
        elif isinstance(score_thr, str):
            score_thr = validated_score_thr(model.info)
        self._network, self.batch_size, self.score_thr = model, batch_size, score_thr
        self.max_value = max_value or model.max_value
        self.mpp, self.channel_order = model.mpp, channel_order
        self.tissue, self.one_class = tissue, one_class
        known = tuple(model.classes)
        self.class_names = tuple(class_names or known)
        if not len(set(self.class_names)) == len(self.class_names) == len(known):
            raise InputError(
                "class names",
                f"{', '.join(self.class_names)} for {', '.join(known)}",
                "Give one name for each, in this order",
            )
        self.palette = tuple(model.palette)
        self.info = dict(model.info)
        native = model.tile
        self.tile = tile or (native[0] if native else TILE_SIZE)
        if overlap is None:
            overlap = native[1] if native and native[0] == self.tile else self.tile // 4
        self.overlap = overlap
        TileGrid((1, 1), self.tile, overlap)  # a wrong overlap shows here

    def __call__(
        self, image: np.ndarray | str | Path, progress: bool = False, **place: Any
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: A file of any format and size that
                :func:`custom.io.slide.open_image` takes; or (H, W) or (H, W, 1 to 4),
                uint8 or uint16, RGB(A) or gray. Floats are refused: their range is
                not known.
            progress: Show a progress bar of the rows of tiles.
            place: ``region``, ``page``, ``mpp`` and ``name``, see :meth:`open`.

        Raises:
            InputError: The image cannot be read or the region is not in it.
        """
        scene = self.open(image, **place)
        hidden = not progress
        rows = tqdm(range(scene.rows), scene.name, delay=5, leave=False, disable=hidden)
        return self.finish(scene, [self.strip(scene, row) for row in rows])

    def open(
        self,
        image: np.ndarray | str | Path,
        *,
        region: Sequence[int] | None = None,
        page: int | None = None,
        mpp: float | None = None,
        name: str | None = None,
    ) -> Scene:
        """Open an image, judge its colours, look for tissue and lay out its tiles.

        Args:
            image: See :meth:`__call__`.
            region: (x, y, width, height) in pixels; the rest is left out.
            page: Page of a TIFF, from 0. None: the file is one image.
            mpp: Micrometres per pixel; default: what the file says.
            name: Of the image in tables; default: the file's.

        Raises:
            InputError: See :meth:`__call__`.
        """
        if mpp is not None and not 0 < mpp < math.inf:
            raise InputError(
                "mpp", f"{mpp} is not a size of a pixel", "Give µm above 0"
            )
        if isinstance(image, str | Path):
            file = open_image(image, self.max_value, page)
        else:
            file = ArrayPixels(image, self.max_value, "image")
        source = Path(file.source).name
        try:
            part = PartPixels(file, region, source=source)
            pixels: Pixels = part
            if math.prod(part.size) <= _IN_MEMORY:
                pixels = ArrayPixels(part.read(0, 0, *part.size))
            order, words = self._order(pixels, file.from_scanner)
            if order == "bgr":
                pixels = PartPixels(pixels, exchange=True)
            slide = file.from_scanner or len(file.sizes) > 1
            look = slide if self.tissue is None else self.tissue
            tissue = TissueMask(pixels) if look else None
        except BaseException:
            file.close()
            raise
        notes = [*(file.notes if mpp is None else ()), *words]
        mpp = file.mpp if mpp is None else mpp
        scale, grid = self.tiles(pixels.size, mpp)
        return Scene(
            name or source, file, pixels, grid, scale, mpp, part.origin, tissue, order,
            notes,
        )  # fmt: skip

    def tiles(self, size: tuple[int, int], mpp: float | None) -> tuple[float, TileGrid]:
        """The network's pixels per pixel of an image, and the image's tiles.

        Args:
            size: (H, W) of the image.
            mpp: Micrometres per pixel; None if not known.
        """
        scale = 1.0
        if mpp is not None and self.mpp is not None:
            scale = mpp / self.mpp
        if abs(math.log(scale)) < _SAME_MPP:
            return 1.0, TileGrid(size, self.tile, self.overlap)
        tile = max(2, round(self.tile / scale))
        overlap = min(max(round(self.overlap / scale), 1), tile - 1)
        return scale, TileGrid(size, tile, overlap)

    def _order(self, image: Pixels, scanned: bool) -> tuple[str, list[str]]:
        """The channel order of the file, and a note where it is unexpected."""
        trained, given = self._network.channel_order, self.channel_order
        if trained is None and given == "auto":
            return "", []  # another stain, or a run from before this was known
        judged = judge_colours(image)
        if given != "auto":
            if judged.order in ("unclear", given):
                return given, []
            return given, [f"it is read as {given}, but looks like {judged}"]
        if judged.order == "unclear":
            order = "rgb" if scanned else str(trained)
            return order, [f"{judged}; read as {order}, --channel-order overrides it"]
        if judged.order != trained:
            note = f"{judged}, unlike the files of the training data; read as such"
            return judged.order, [f"{note}, --channel-order overrides it"]
        return judged.order, []

    def strip(self, scene: Scene, row: int) -> Strip:
        """Predict a row of tiles; any process may predict any of them."""
        across = len(scene.grid.columns)
        # A box of the network ends near the tile's border, within two of its pixels.
        merger = TileMerger(scene.grid, border=max(2, math.ceil(2 / scene.scale)))
        shown = [
            number
            for number in range(row * across, (row + 1) * across)
            if scene.tissue is None or scene.tissue(*scene.grid[number])
        ]
        began = time.perf_counter()
        for first in range(0, len(shown), self.batch_size):
            self._predict(scene, shown[first : first + self.batch_size], merger)
        return {
            **merger.state(),
            "predicted": np.array(len(shown)),
            "skipped": np.array(across - len(shown)),
            "seconds": np.array(time.perf_counter() - began),
        }

    def _predict(self, scene: Scene, batch: list[int], merger: TileMerger) -> None:
        tiles = [scene.grid[n] for n in batch]
        read = [read_scaled(scene.image, tile, scene.scale) for tile in tiles]
        predicted = self._network([part.pixels for part in read])
        for number, part, (boxes, scores, labels, masks) in zip(
            batch, read, predicted, strict=True
        ):
            if not len(scores):
                continue
            step, origin = np.tile(part.step, 2), np.tile(part.origin, 2)
            boxes = boxes * step + origin
            masks = masks.moved(part.origin, scene.image.size, part.step)
            merger.add(number, boxes, scores, labels, masks)

    def finish(self, scene: Scene, strips: Sequence[Strip]) -> Segmentation:
        """Merge the rows of tiles of an image.

        Args:
            scene: The image.
            strips: All of its rows, in their order.
        """
        merger = TileMerger(scene.grid)
        for strip in strips:
            merger.restore(strip)
        detections = merger.merge()
        if self.score_thr is not None:  # augmentation changes scores at the end
            detections = detections[detections.scores >= self.score_thr]
        if self.one_class:
            detections = detections[best_class(detections)]
        tiles = [
            sum(float(strip[k]) for strip in strips)
            for k in ("predicted", "skipped", "seconds")
        ]
        return self.result(scene, detections, (int(tiles[0]), int(tiles[1]), tiles[2]))

    def result(
        self,
        scene: Scene,
        detections: Detections,
        tiles: tuple[int, int, float] = (0, 0, 0.0),
    ) -> Segmentation:
        """The segmentation of an image from its detections; the network does not run.

        Args:
            scene: The image.
            detections: Its cells, best score first, such as ``Detections.from_state``.
            tiles: See :class:`Segmentation`.
        """
        notes = list(scene.notes)
        if dark := scene.file.dark_note():
            notes.append(dark)
        if tiles[1] and not tiles[0]:
            notes.append("it shows no tissue")
        return Segmentation(
            name=scene.name,
            image=scene.image,
            boxes=detections.boxes,
            scores=detections.scores,
            classes=detections.labels,
            masks=detections.masks,
            class_names=self.class_names,
            palette=self.palette,
            mpp=scene.mpp,
            origin=scene.origin,
            info=dict(self.info),
            file_name=Path(scene.file.source).name,
            channel_order=scene.channel_order,
            notes=tuple(notes),
            tiles=tiles,
        )
