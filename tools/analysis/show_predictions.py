"""Draw validation images with ground truth and predictions side by side.

Example::

    python tools/analysis/show_predictions.py CONFIG CHECKPOINT -o predictions.png

The images are the run's own validation images, those with the most cells first unless
names are given. Predictions below the score threshold are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from tqdm import tqdm

from custom.errors import InputError
from custom.io.image import read_image
from custom.runs import set_split, split_of_run
from custom.visualization import draw_contours


def main() -> None:
    """Predict a few images and draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--images", nargs="*", help="names of images")
    parser.add_argument("--count", type=int, default=3, help="how many, without names")
    parser.add_argument("--score-thr", type=float, default=0.5)
    parser.add_argument("--device", help="default: the GPU if there is one")
    args = parser.parse_args()

    cfg = Config.fromfile(args.config)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    init_default_scope("mmdet")
    if (split := split_of_run(args.checkpoint.parent)) is not None:
        set_split(cfg, split)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    if args.images:
        number_of = {entry["name"]: i for i, entry in enumerate(entries)}
        absent = [name for name in args.images if name not in number_of]
        if absent:
            raise InputError(
                absent[0],
                "no validation image of this run",
                "Choose from its split.json",
            )
        chosen = [number_of[name] for name in args.images]
    else:
        chosen = sorted(range(len(entries)), key=lambda i: -sum(entries[i]["counts"]))
        chosen = chosen[: args.count]

    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).to(device).eval()
    load_checkpoint(model, str(args.checkpoint), map_location="cpu", logger="silent")
    classes, palette = dataset.metainfo["classes"], dataset.metainfo["palette"]

    figure, axes = plt.subplots(
        len(chosen),
        3,
        figsize=(12, 4.1 * len(chosen)),
        squeeze=False,
        constrained_layout=True,
    )
    for row, index in zip(axes, tqdm(chosen, unit="image", delay=1), strict=True):
        with torch.no_grad():
            sample = model.test_step(pseudo_collate([dataset[index]]))[0].cpu()
        image = read_image(sample.img_path)
        pred = sample.pred_instances
        pred = pred[pred.scores >= args.score_thr]
        panels = (
            (sample.name, image),
            (f"ground truth: {len(sample.gt_instances)} cells", sample.gt_instances),
            (f"predicted, score ≥ {args.score_thr:g}: {len(pred)} cells", pred),
        )
        # Thicker lines where the figure shows large images small.
        thickness = max(1, round(max(image.shape[:2]) / 300))
        for axis, (title, content) in zip(row, panels, strict=True):
            if not isinstance(content, np.ndarray):
                content = draw_contours(
                    image, content.masks, content.labels, palette, thickness
                )
            axis.imshow(content)
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.legend(
        handles=[
            Line2D([], [], color=np.array(color) / 255, lw=3, label=name)
            for name, color in zip(classes, palette, strict=True)
        ],
        loc="outside lower center",
        ncols=len(classes),
        frameon=False,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)
    print(f"{args.out}: {len(chosen)} images with ground truth and predictions")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
