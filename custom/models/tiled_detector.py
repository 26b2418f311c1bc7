"""Prediction of large images tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor
from tqdm import tqdm

from custom.inference.tiles import TileGrid, TileMerger
from custom.inference.views import View

# One tile of one view: its pixels, its sample, its place in the image.
Part = tuple[Tensor, DetDataSample, View]


@MODELS.register_module()
class TiledDetector(TwoStageDetector):
    """Any detector of the Mask R-CNN family, predicting in overlapping tiles.

    ``type='TiledDetector'`` replaces ``'MaskRCNN'``, ``'CascadeRCNN'`` and other
    detectors, which add nothing to :class:`TwoStageDetector`. Parameters, training and
    checkpoints are those of the plain detector. An image that fits into one tile is
    predicted as by the plain detector; otherwise tiles are cut from the image that the
    test pipeline gives, predicted in batches and merged, see
    :mod:`custom.inference.tiles`. Beside the image, memory follows the tiles.

    Args:
        tile_size: Side of a tile, in pixels of the original image.
        overlap: Pixels of the original image that neighbours share at least; cells up
            to this size are seen whole.
        tile_batch: Tiles that go through the network at once.

    Raises:
        InputError: The overlap is not between 1 and the tile size less one.
    """

    def __init__(
        self, *args, tile_size: int, overlap: int, tile_batch: int = 1, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tile_size, self.overlap, self.tile_batch = tile_size, overlap, tile_batch
        self.grid((1, 1))  # a wrong overlap shows here and not after the training

    def grid(self, size: tuple[int, int]) -> TileGrid:
        """The tiles of an image of (H, W)."""
        return TileGrid(size, self.tile_size, self.overlap)

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Predict images of a data loader, each by itself."""
        samples = list(data["data_samples"])
        for i, (image, sample) in enumerate(zip(data["inputs"], samples, strict=True)):
            grid = self.grid(sample.ori_shape[:2])
            if len(grid) == 1:
                (samples[i],) = self._test_whole([image], [sample])
            else:
                sample.pred_instances = predict_tiles(
                    grid, [image], [sample], self.tile_batch, self._predict_parts
                )
        return samples

    val_step = test_step

    def _test_whole(
        self, images: list[Tensor], samples: list[DetDataSample]
    ) -> list[DetDataSample]:
        return super().test_step({"inputs": images, "data_samples": samples})

    def _predict_parts(self, views: Sequence[Sequence[Part]]) -> list[InstanceData]:
        """The detections of a batch of tiles, in the frame of the original image."""
        ((images, samples, places),) = (zip(*parts, strict=True) for parts in views)
        detections = []
        results = self._test_whole(list(images), list(samples))
        for result, place in zip(results, places, strict=True):
            pred = result.pred_instances
            if len(pred):
                x, y = (o / s for o, s in zip(place.origin, place.scale, strict=True))
                pred.masks = pred.masks.moved((x, y), result.image_shape)
                pred.bboxes = pred.masks.boxes
            detections.append(pred)
        return detections


def predict_tiles(
    grid: TileGrid,
    images: Sequence[Tensor],
    samples: Sequence[DetDataSample],
    batch_size: int,
    predict: Callable[[Sequence[Sequence[Part]]], Sequence[InstanceData]],
) -> InstanceData:
    """Cut an image, predict its tiles and merge them.

    Args:
        grid: The tiles.
        images: (C, h, w) uint8 of each view of the image; one without test-time
            augmentation.
        samples: Their samples.
        batch_size: Tiles that ``predict`` gets at once.
        predict: Takes the parts of a batch of tiles, view by view, and gives for each
            tile its instances with boxes and masks in the frame of the original image.

    Returns:
        ``bboxes, scores, labels`` on the CPU and ``masks``, :class:`BoxMasks`.
    """
    views = [View.of(sample.metainfo) for sample in samples]
    merger = TileMerger(grid)
    with tqdm(total=len(grid), unit="tile", delay=5, leave=False) as progress:
        for start in range(0, len(grid), batch_size):
            numbers = range(start, min(start + batch_size, len(grid)))
            batch = [
                [_part(*view, grid[i]) for i in numbers]
                for view in zip(images, samples, views, strict=True)
            ]
            for i, detections in zip(numbers, predict(batch), strict=True):
                if len(detections):
                    boxes, scores, labels = (
                        detections[k].cpu().numpy()
                        for k in ("bboxes", "scores", "labels")
                    )
                    merger.add(i, boxes, scores, labels, detections.masks)
            progress.update(len(numbers))
    merged = merger.merge()
    return InstanceData(
        bboxes=torch.from_numpy(merged.boxes).float(),
        scores=torch.from_numpy(merged.scores).float(),
        labels=torch.from_numpy(merged.labels),
        masks=merged.masks,
    )


def _part(image: Tensor, sample: DetDataSample, view: View, tile: tuple) -> Part:
    """The part of a view that shows a tile, with a sample of its own."""
    pixels, place = view.cut(image, tile)
    meta = {
        **sample.metainfo,
        "img_shape": tuple(pixels.shape[-2:]),
        "ori_shape": (tile[2] - tile[0], tile[3] - tile[1]),
        "image_shape": tuple(sample.ori_shape[:2]),
    }
    return pixels, DetDataSample(metainfo=meta), place
