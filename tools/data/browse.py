"""Draw training samples after augmentation, as the network sees them.

Example::

    python tools/data/browse.py configs/cell/maskrcnn_r50.py -o samples.png --count 12

Contours have the colours of the classes; thin boxes are the boxes the network learns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from mmdet.registry import DATASETS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import trange

from custom.errors import InputError, run_tool
from custom.io.atomic import write_atomically
from custom.io.colours import class_palette
from custom.io.names import image_name
from custom.structures.box_masks import BoxMasks
from custom.structures.contours import draw_contours


def draw(sample: dict, palette: list) -> np.ndarray:
    """Draw the contours and boxes of a packed sample.

    Args:
        sample: What ``PackDetInputs`` gives: a BGR image (3, H, W), of floats after
            some of MMDetection's colour transforms, and instances with masks of any
            type, or without.
        palette: RGB colour of each class.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = sample["inputs"].numpy().transpose(1, 2, 0)
    image = np.rint(image).clip(0, 255).astype(np.uint8)
    image = np.ascontiguousarray(image[:, :, ::-1])
    gt = sample["data_samples"].gt_instances
    thickness = max(1, round(max(image.shape[:2]) / 400))
    if "masks" in gt:
        masks = gt.masks
        if not hasattr(masks, "patches"):  # MMDetection's bitmaps and polygons
            bitmaps = ((0, 0, mask > 0) for mask in masks.to_ndarray())
            masks = BoxMasks.from_patches(bitmaps, image.shape[:2])
        image = draw_contours(image, masks, gt.labels, palette, thickness)
    for x1, y1, x2, y2 in get_box_tensor(gt.bboxes).round().int().tolist():
        cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 1)
    return image


def main() -> None:
    """Draw a grid of samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count is the number of samples, at least 1")
    if args.out.exists():
        raise InputError(args.out, "it exists already", "Choose another --out")
    if args.out.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(args.out, "not the name of an image", "Name a .png file")

    cfg = Config.fromfile(args.config)
    init_default_scope("mmdet")
    np.random.seed(args.seed)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    classes = dataset.metainfo["classes"]
    palette = class_palette(len(classes), dataset.metainfo.get("palette"))
    columns = min(4, args.count)
    rows = -(-args.count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.6 * columns, 3.8 * rows),
        squeeze=False,
        constrained_layout=True,
    )
    for axis in axes.flat:
        axis.axis("off")
    order = np.random.permutation(len(dataset))
    for i in trange(args.count, unit="sample", delay=1):
        sample = dataset[int(order[i % len(order)])]
        meta = sample["data_samples"]
        axes.flat[i].imshow(draw(sample, palette))
        height, width = meta.img_shape[:2]
        axes.flat[i].set_title(
            f"{image_name(Path(meta.img_path))[:24]}\n{width}x{height}, "
            f"{len(meta.gt_instances)} cells",
            fontsize=7,
        )
    figure.legend(
        handles=[
            Line2D([], [], color=np.array(color) / 255, lw=3, label=name)
            for name, color in zip(classes, palette, strict=True)
        ],
        loc="outside lower center",
        ncols=len(classes),
        frameon=False,
    )
    with write_atomically(args.out) as part:
        figure.savefig(part, dpi=110, format=args.out.suffix[1:] or "png")
    print(f"{args.out}: {args.count} training samples after augmentation")


if __name__ == "__main__":
    run_tool(main)
