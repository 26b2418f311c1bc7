"""Write docs/zoo.md: what each config is, and which row of which report it reproduces.

Example::

    python tools/analysis/zoo.py

Everything is read from the configs themselves, so the file is never older than they
are. Models are built on PyTorch's meta device: no weights, no computation.
"""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from custom.engine.guards import count_parameters
from custom.errors import run_tool
from custom.io.atomic import write_atomically
from custom.workbench.report.settings import (
    anchors,
    backbone,
    heads,
    neck,
    optimiser,
    schedule,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
# The tables of the reports, row by row, so that none can be forgotten.
REPORTS = {
    "000": (
        "Mask R-CNN with one backbone after another. Public score 0.22; of which one, "
        "the report does not say.",
        {
            "loss curves, last epoch": ("Resnet50", "Resnet101", "Resnext101"),
            "backbones without a curve": ("ResNet152", "ResNeXt50_32x4d"),
        },
    ),
    "001": (
        "ConvNeXt-B and its ablations. Public mAP 0.3972.",
        {
            "final run": ("ConvNeXt_base, all images",),
            "backbones": ("ResNet-50", "EfficientNetV2_m", "ConvNeXt_base"),
            "trainable layers": ("3", "5"),
            "adapt minmax size": ("V", "X", "X, read as native"),
            "box score threshold": ("0.7", "0.5"),
        },
    ),
    "002": (
        "The light Mask R-CNN v2 and the way to it. Public mAP 0.3781.",
        {
            "experiments": (
                "default(HW2 best[StepLR])",
                "warmUp",
                "warmUp_smallAnchor",
                "warmUp_smallAnchor_v2",
                "warmUp_smallAnchor_gray",
                "warmUp_smallAnchor_light",
            ),
        },
    ),
    "003": (
        "R50-DC5 with Adagrad. The report has no figures.",
        {"the system": ("mask_rcnn_R_50_DC5_3x",)},
    ),
    "004": (
        "The 2021 nuclei with detectron2's C4 models. Score 0.244597.",
        {
            "results": (
                "R_101_C4_3x, 1599-iter",
                "R_50_C4_1x, 1599-iter",
                "R_50_C4_1x, 2199-iter",
                "R_50_C4_1x, saturation 2 ~ 10",
                "R_50_C4_1x, saturation 0.5 ~ 2",
                "R_50_FPN_1x, model_final",
            ),
            "detections per image": ("500", "700", "800"),
        },
    ),
}
HEAD = """# Zoo

Written by `python tools/analysis/zoo.py` from the configs; do not edit.

* **About**: the first sentence of the config.
* **Inherits**: the config that it differs from, or its parts in `configs/_base_/`.
* **Anchors**: side of the square ones in pixels, from the first level to the last, the
  number of sizes per level if it is not one, and of aspect ratios.
* **Parameters**: all and, of these, the trainable ones. The course allows fewer than
  200 million trainable ones. In brackets: what the report counts.
* **GFLOPs**: of one image of the size beside it, at which the config trains (landscape,
  padded to 32 pixels; 1000x1000 where images keep their size), through backbone, neck
  and RPN, and of the heads on 1,000 proposals and 100 detections. A multiplication and
  an addition count as two.
* **Report**: what the report says of the row or rows that the config reproduces.
"""
COLUMNS = (
    "config",
    "about",
    "inherits",
    "backbone",
    "neck",
    "heads",
    "anchors",
    "optimiser",
    "schedule",
    "batch",
    "parameters",
    "GFLOPs",
    "report",
)


def config_files() -> list[Path]:
    """Every config, folder by folder."""
    files = [path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts]
    return sorted(files, key=lambda path: (str(path.parent), path.name))


def about(path: Path) -> str:
    """The first sentence of a config's first comment."""
    lines = itertools.takewhile(
        lambda line: line.startswith("# "), path.read_text().splitlines()
    )
    text = " ".join(line.removeprefix("# ") for line in lines)
    return text.split(". ")[0].removesuffix(".")


def parents(path: Path) -> str:
    """What a config names as its bases, without the shared folders."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "_base_":
            bases = ast.literal_eval(node.value)
            bases = [bases] if isinstance(bases, str) else bases
            names = (b.split("_base_/")[-1].removeprefix("./") for b in bases)
            return ", ".join(name.removesuffix(".py") for name in names)
    return "-"


def train_size(pipeline: Iterable[ConfigDict]) -> tuple[int, int]:
    """(H, W) at which the network sees the training images, landscape."""
    size = (1000, 1000)
    for step in pipeline:
        if (
            step.type == "RandomCrop"
            and step.get("crop_type", "absolute") == "absolute"
        ):
            size = (step.crop_size[1], step.crop_size[0])
        elif step.type == "Resize" and "scale" in step:
            size = (min(step.scale), max(step.scale))
    return size


def gflops(model, cfg: ConfigDict, size: tuple[int, int]) -> float:
    """See the head of the file; the model is on the meta device."""
    height, width = (-(-side // 32) * 32 for side in size)
    channels = cfg.backbone.get("in_channels", 3)
    image = torch.empty(1, channels, height, width, device="meta")
    roi = model.roi_head

    def crops(count: int, extractor) -> torch.Tensor:
        side = extractor.roi_layers[0].output_size
        return torch.empty(count, extractor.out_channels, *side, device="meta")

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.rpn_head(model.extract_feat(image))
        # A cascade has a list of each.
        boxes, extractors = roi.bbox_head, roi.bbox_roi_extractor
        if not isinstance(boxes, torch.nn.ModuleList):
            boxes, extractors = [boxes], [extractors]
        for head, extractor in zip(boxes, extractors, strict=True):
            features = crops(1000, extractor)
            head(roi.shared_head(features) if roi.with_shared_head else features)
        mask = roi.mask_head
        if isinstance(mask, torch.nn.ModuleList):
            for head, extractor in zip(mask, roi.mask_roi_extractor, strict=True):
                head(crops(100, extractor))
        else:
            features = crops(100, roi.mask_roi_extractor)
            mask(roi.shared_head(features) if roi.with_shared_head else features)
    return counter.get_total_flops() / 1e9


@functools.cache
def cost(detector: str, size: tuple[int, int]) -> tuple[int, int, float]:
    """(all, trainable) parameters and GFLOPs of a model, given as JSON.

    Many configs differ in their data only, and share a model.
    """
    cfg = ConfigDict(json.loads(detector))
    with torch.device("meta"):
        model = MODELS.build(cfg).eval()
    return *count_parameters(model), gflops(model, cfg, size)


def describe(path: Path) -> dict:
    """The row of one config."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    detector = cfg.model.get("detector", cfg.model)  # wrapped for tiles or TTA
    said = [f"{r.parameters:,}" for r in cfg.get("report", []) if "parameters" in r]
    dataset = cfg.train_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    size = train_size(dataset.pipeline)
    total, trainable, flops = cost(json.dumps(detector, sort_keys=True), size)
    name = path.relative_to(CONFIGS).with_suffix("").as_posix()
    figures = [figures_of(row) for row in cfg.get("report", [])]
    return {
        "folder": path.parent.relative_to(CONFIGS).as_posix(),
        "config": f"[{path.stem}](../configs/{name}.py)",
        "about": about(path),
        "inherits": parents(path),
        "backbone": backbone(detector.backbone),
        "neck": neck(detector.get("neck")),
        "heads": heads(detector),
        "anchors": anchors(detector.rpn_head.anchor_generator),
        "optimiser": optimiser(cfg.optim_wrapper),
        "schedule": schedule(cfg),
        "batch": cfg.train_dataloader.batch_size,
        "parameters": f"{total:,}, {trainable:,}"
        + (f" [{', '.join(said)}]" if said else ""),
        "GFLOPs": f"{flops:,.0f} at {size[0]}x{size[1]}",
        "report": "; ".join(dict.fromkeys(filter(None, figures))) or "-",
        "rows": cfg.get("report", []),
    }


def figures_of(row: dict) -> str:
    """The figures of one row of a report."""
    skipped = ("number", "table", "row", "parameters")
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.6g}"
        for key, value in row.items()
        if key not in skipped
    )


def table(columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A Markdown table."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def rows_of(report: str, configs: list[dict]) -> list[tuple]:
    """Each row of a report's tables with the configs that reproduce it.

    Raises:
        ValueError: A row has no config, or a config names a row that is not there.
    """
    found: dict[tuple, list] = {}
    for config in configs:
        for row in config["rows"]:
            if row["number"] == report:
                found.setdefault((row["table"], row["row"]), []).append((config, row))
    listed = [(t, r) for t, rows in REPORTS[report][1].items() for r in rows]
    if set(found) != set(listed):
        raise ValueError(
            f"report {report}: without a config {set(listed) - set(found)}, not in the "
            f"report {set(found) - set(listed)}"
        )
    return [
        (*place, config["config"], figures_of(row) or "-")
        for place in listed
        for config, row in found[place]
    ]


def write(configs: list[dict]) -> str:
    """The whole file."""
    parts = [HEAD]
    for folder in dict.fromkeys(config["folder"] for config in configs):
        own = [config for config in configs if config["folder"] == folder]
        parts.append(f"\n## configs/{folder}\n")
        parts.append(table(COLUMNS, ([c[key] for key in COLUMNS] for c in own)))
    for report, (about, _) in REPORTS.items():
        parts.append(f"\n## Report {report}\n\n{about}\n")
        columns = ("table", "row", "config", "the report's figures")
        parts.append(table(columns, rows_of(report, configs)))
    return "\n".join(parts) + "\n"


def main() -> None:
    """Read all configs and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "zoo.md")
    args = parser.parse_args()
    files = config_files()
    text = write([describe(path) for path in tqdm(files, unit="config")])
    with write_atomically(args.out) as part:
        part.write_text(text)
    print(f"{args.out}: {len(files)} configs")


if __name__ == "__main__":
    run_tool(main)
