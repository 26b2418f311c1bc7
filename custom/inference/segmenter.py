"""A trained model as a function: image in, cells out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from custom.errors import InputError
from custom.inference.large_image import Found, predict_regions
from custom.inference.segmentation import Color, Segmentation
from custom.inference.tiles import TileGrid
from custom.io.pixel_size import pixel_size
from custom.io.pixels import ArrayPixels, PartPixels, Pixels
from custom.io.regions import ImageRegions

TILE_SIZE = 768
# Images up to this many pixels are read once; of larger ones the parts that are needed.
_IN_MEMORY = 1 << 26


class Network(Protocol):
    """What a :class:`Segmenter` needs of a model.

    Attributes:
        classes: Names of the classes.
        palette: Their RGB colours.
        tile: Side of a tile that the model asks for and its overlap, in pixels; None
            where it asks for none.
        max_value: The value of a 16-bit image that becomes 255.
        info: Where the model is from; ``digest`` changes with the weights and settings.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    tile: tuple[int, int] | None
    max_value: int
    info: dict

    def __call__(self, tiles: list[np.ndarray]) -> Iterable[Found]:
        """Predict (h, w, 3) uint8 RGB tiles."""


class Segmenter:
    """A trained model that segments the cells of images.

    Example::

        from custom.inference import Segmenter

        found = Segmenter("work_dirs/x")("slide.tif")
        found.labels, found.scores, found.to_frame(), found.overlay()

    Args:
        model: A run folder (its newest config and its best checkpoint, or else its
            last), an exported file, a config if ``checkpoint`` is given, or a
            :class:`Network`. A config is Python code and runs; of an exported file
            nothing runs.
        checkpoint: The weights for a config.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``; default: the GPU if there is one.
        amp: Half precision, on a GPU.
        batch_size: Tiles that go through the network at once.
        score_thr: Cells below this score are left out. None: what the model's own
            thresholds leave, for instance to choose later by ``above``.
        tile: Side of a tile in pixels; a larger image is predicted tile by tile.
            Default: the model's, or 768.
        overlap: Pixels that tiles share; default: the model's, or a fourth of the tile.
        tta: Test-time augmentation.
        options: Settings that replace the config's, as ``--cfg-options`` gives them.

    Attributes:
        class_names: Names of the classes.
        palette: Their RGB colours.
        tile, overlap: As above, what is in use.
        info: Where the model is from, see :class:`Network`.

    Raises:
        InputError: There is no such model, the file is damaged, no checkpoint or one
            for other classes or another network, or wants to run code.
    """

    def __init__(
        self,
        model: str | Path | Network,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        amp: bool = False,
        batch_size: int = 1,
        score_thr: float | None = 0.5,
        tile: int | None = None,
        overlap: int | None = None,
        tta: bool = False,
        options: dict | None = None,
    ) -> None:
        if score_thr is not None and not 0 <= score_thr <= 1:
            raise InputError(
                "score threshold", f"{score_thr} is no score", "Choose 0 to 1"
            )
        if batch_size < 1:
            raise InputError("batch size", f"{batch_size}", "Choose 1 or more")
        if isinstance(model, str | Path):
            # The one place of custom.inference that needs MMDetection's registries:
            # only they make a network of a config. Everything else here runs without.
            from custom.inference.trained_model import TrainedModel, read_model

            model = TrainedModel(
                read_model(model, checkpoint, options),
                device=device,
                amp=amp,
                score_thr=score_thr,
                tta=tta,
            )
        self._network, self.batch_size, self.score_thr = model, batch_size, score_thr
        self.class_names, self.palette = tuple(model.classes), tuple(model.palette)
        self.info = dict(model.info)
        own = model.tile
        self.tile = tile or (own[0] if own else TILE_SIZE)
        if overlap is None:
            overlap = own[1] if own and own[0] == self.tile else self.tile // 4
        self.overlap = overlap
        TileGrid((1, 1), self.tile, overlap)  # a wrong overlap shows here

    def __call__(
        self,
        image: np.ndarray | str | Path,
        *,
        region: Sequence[int] | None = None,
        page: int | None = None,
        mpp: float | None = None,
        name: str | None = None,
        progress: bool = False,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: A file of any type that :func:`custom.io.image.read_image` takes, of
                any size if it is a TIFF or .svs; or (H, W) or (H, W, 1 to 4), uint8 or
                uint16, RGB(A) or gray. Floats are refused: their range is not known.
            region: (x, y, width, height) in pixels; the rest is left out.
            page: Page of a TIFF, from 0. None: the file is one image.
            mpp: Micrometres per pixel; default: what the file says.
            name: Of the image in tables; default: the file's.
            progress: Show a progress bar of the tiles.

        Raises:
            InputError: The image cannot be read or the region is not in it.
        """
        max_value = self._network.max_value
        if mpp is not None and not 0 < mpp < math.inf:
            raise InputError("mpp", f"{mpp} is no size of a pixel", "Give µm above 0")
        with ExitStack() as stack:
            if isinstance(image, str | Path):
                source = Path(image).name
                if mpp is None:
                    mpp = pixel_size(image, page or 0)
                whole: Pixels = ImageRegions(image, max_value, page)
                stack.enter_context(whole)
            else:
                source, whole = "image", ArrayPixels(image, max_value)
            pixels, origin = whole, (0, 0)
            if region is not None:
                pixels = PartPixels(whole, region, source)
                origin = pixels.origin
            height, width = pixels.size
            if height * width <= _IN_MEMORY:
                pixels = ArrayPixels(pixels.read(0, 0, height, width))
            else:
                stack.pop_all()  # the file is read when pixels are asked for
        found = self.segment(
            pixels, name=name or source, mpp=mpp, origin=origin, progress=progress
        )
        return replace(found, file_name=source)

    def segment(
        self,
        image: Pixels,
        *,
        name: str = "image",
        mpp: float | None = None,
        origin: tuple[int, int] = (0, 0),
        progress: bool = False,
    ) -> Segmentation:
        """Segment an image that is open already; see :class:`Segmentation`."""
        grid = TileGrid(image.size, self.tile, self.overlap)
        batches = [
            range(i, min(i + self.batch_size, len(grid)))
            for i in range(0, len(grid), self.batch_size)
        ]
        bar = tqdm(
            batches,
            desc=name,
            unit="batch",
            delay=5,
            leave=False,
            disable=not progress,
        )
        found = predict_regions(image, grid, bar, self._network)
        if self.score_thr is not None:  # augmentation changes scores at the end
            found = found[found.scores >= self.score_thr]
        return Segmentation(
            name=name,
            image=image,
            boxes=found.boxes,
            scores=found.scores,
            classes=found.labels,
            masks=found.masks,
            class_names=self.class_names,
            palette=self.palette,
            mpp=mpp,
            origin=origin,
            info=dict(self.info),
        )
