"""Predict images of any size, such as whole slides, and write COCO JSON.

Example::

    python tools/predict.py CONFIG CHECKPOINT slide.tif more/*.png -o predictions

Writes <OUT>/<name of the image>.json for each image: a COCO data set with scores, which
tools/ensemble.py and others read. An image larger than a tile is read and predicted
tile by tile, so that memory follows the tile and the cells that were found; TIFFs are
never read whole. A tile goes through the config's test pipeline as if it was an image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from tqdm import tqdm

from custom.errors import InputError
from custom.inference.large_image import Found, predict_regions
from custom.inference.tiles import Detections, TileGrid
from custom.io.regions import ImageRegions
from custom.io.whole_file import whole_file
from custom.runs import set_tta
from custom.structures.rle import to_json

TILE_SIZE = 768
# Detections that are written at once; bounds the memory.
WRITE_AT_ONCE = 4096


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", type=Path, help="checkpoint file")
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder")
    parser.add_argument(
        "--tile-size",
        type=int,
        help=f"side of a tile in pixels; default: the config's, or {TILE_SIZE}",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        help="pixels that tiles share; default: the config's, or a fourth of the tile",
    )
    parser.add_argument("--batch", type=int, default=1, help="tiles at once")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that replace the config's: key=value, lists as key=[a,b]",
    )
    return parser.parse_args()


def main() -> None:
    """Check what can be checked, then predict image by image."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if not args.checkpoint.is_file():
        raise InputError(
            args.checkpoint,
            "the checkpoint does not exist",
            "Check the name, or train first",
        )
    tile = args.tile_size or cfg.model.get("tile_size", TILE_SIZE)
    overlap = args.overlap
    if overlap is None:
        same = tile == cfg.model.get("tile_size")
        overlap = cfg.model.overlap if same else tile // 4
    TileGrid((1, 1), tile, overlap)
    targets = _targets(args.images, args.out)
    if "tile_size" in cfg.model:  # each tile is one image for the model
        cfg.model.update(tile_size=tile, overlap=overlap)

    init_default_scope("mmdet")
    cfg.test_dataloader = cfg.submission_dataloader
    cfg.model.backbone.init_cfg = None
    if args.tta:
        set_tta(cfg)
    load, *steps = cfg.test_dataloader.dataset.pipeline
    predictor = Predictor(cfg.model, args.checkpoint, steps, args.device)
    settings = {k: v for k, v in load.items() if k == "max_value"}
    for path, target in targets.items():
        with ImageRegions(path, **settings) as image:
            grid = TileGrid(image.size, tile, overlap)
            batches = [
                range(i, min(i + args.batch, len(grid)))
                for i in range(0, len(grid), args.batch)
            ]
            progress = tqdm(batches, desc=path.name, unit="batch", delay=1)
            found = predict_regions(image, grid, progress, predictor)
            info = {
                "config": args.config,
                "checkpoint": str(args.checkpoint),
                "split": None,
                "subset": "test",
            }
            write_coco(target, path.name, image.size, found, predictor.classes, info)
        print(f"{target}: {len(found)} cells in {len(grid)} tiles of {path}")


def _targets(images: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The file to write for each image.

    Raises:
        InputError: An image is missing, two have one name, or a file exists.
    """
    targets: dict[Path, Path] = {}
    for path in images:
        if not path.is_file():
            raise InputError(path, "the image does not exist", "Check the name")
        target = out / f"{path.stem}.json"
        if target in targets.values():
            raise InputError(
                path,
                f"another image would be written to {target} as well",
                "Give images of one name one after another, to different folders",
            )
        if target.exists():
            raise InputError(target, "it exists already", "Choose another folder")
        targets[path] = target
    return targets


class Predictor:
    """A trained model that takes tiles.

    Args:
        model: Config of the model.
        checkpoint: Its weights; their metainfo names the classes.
        pipeline: The steps of the test pipeline after loading.
        device: Where to run; default: the GPU if there is one.
    """

    def __init__(
        self, model: dict, checkpoint: Path, pipeline: list, device: str | None = None
    ) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = MODELS.build(model).to(device).eval()
        meta = load_checkpoint(
            self.model, str(checkpoint), map_location="cpu", logger="silent"
        ).get("meta", {})
        self.classes = meta.get("dataset_meta", {}).get("classes")
        self.pipeline = Compose(pipeline)

    @torch.no_grad()
    def __call__(self, tiles: list[np.ndarray]) -> Iterator[Found]:
        """Predict (h, w, 3) uint8 RGB tiles."""
        batch = []
        for tile in tiles:
            size = tile.shape[:2]
            image = np.ascontiguousarray(tile[:, :, ::-1])  # BGR, as LoadCellImage
            batch.append(
                self.pipeline({"img": image, "img_shape": size, "ori_shape": size})
            )
        for sample in self.model.test_step(pseudo_collate(batch)):
            pred = sample.pred_instances
            columns = (pred.bboxes, pred.scores, pred.labels)
            yield *(column.cpu().numpy() for column in columns), pred.masks


def write_coco(
    path: Path,
    name: str,
    size: tuple[int, int],
    found: Detections,
    classes: Sequence[str] | None,
    info: dict,
) -> None:
    """Write the detections of one image, whole or not at all.

    The file is that of :class:`custom.evaluation.Predictions`, written part by part:
    the cells of a slide are too many to be a list of dicts.
    """
    names = classes or [
        f"class{i + 1}" for i in range(max(found.labels, default=0) + 1)
    ]
    head = {
        "info": info,
        "images": [{"id": 1, "file_name": name, "height": size[0], "width": size[1]}],
        "categories": [{"id": i, "name": c} for i, c in enumerate(names, 1)],
        "annotations": [],
    }
    with whole_file(path) as part, part.open("w") as file:
        file.write(json.dumps(head)[:-2])
        separator = "\n"
        for annotation in _annotations(found):
            file.write(separator + json.dumps(annotation))
            separator = ",\n"
        file.write("]}\n")


def _annotations(found: Detections) -> Iterator[dict]:
    for start in range(0, len(found), WRITE_AT_ONCE):
        chunk = found[np.arange(start, min(start + WRITE_AT_ONCE, len(found)))]
        boxes = np.concatenate(
            [chunk.boxes[:, :2], chunk.boxes[:, 2:] - chunk.boxes[:, :2]], axis=1
        )
        columns = zip(
            boxes.round(2).tolist(),
            chunk.scores.tolist(),
            chunk.labels.tolist(),
            chunk.masks.areas.tolist(),
            chunk.masks.to_rle(),
            strict=True,
        )
        for i, (box, score, label, area, rle) in enumerate(columns, start + 1):
            yield {
                "id": i,
                "image_id": 1,
                "category_id": label + 1,
                "score": score,
                "bbox": box,
                "area": area,
                "segmentation": to_json(rle),
            }


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
