"""Segment the cells of images with a trained model and write what other programs open.

Examples::

    python tools/predict.py work_dirs/RUN slide.svs more/ "scans/**/*.tif" -o OUT
    python tools/predict.py model.pt slide.svs -o OUT --save geojson csv labels overlay
    python tools/predict.py CONFIG CHECKPOINT image.png -o OUT --score-thr 0 --save coco
    torchrun --nproc_per_node 4 tools/predict.py RUN slides -o OUT --launcher pytorch

A folder means all images in it, a TIFF of several pages one image for each. Large
images are predicted tile by tile; several processes share the tiles of one slide.
Images whose pixel size is known and differs from the training's are resampled for the
network; results are in the image's own pixels. OUT/summary.csv counts the cells of all
images.

Repeating the command resumes an interrupted run, a large image at its finished rows of
tiles. With another --save, --mpp or --class-names it rewrites the files without the
network, as long as the network would see the same pixels. An image that fails does not
stop the others, is listed at the end, and makes the exit status 1. See docs/predict.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as tools/test.py

import torch
from mmengine.config import DictAction

from custom.errors import run_tool
from custom.inference import Segmenter
from custom.workbench.predict.inputs import ImageInput, find_images
from custom.workbench.predict.outputs import KINDS, check_kinds
from custom.workbench.predict.result_folder import ResultFolder
from custom.workbench.predict.run import Run, exchange, join_processes

# Options that are parameters of the Segmenter.
_SEGMENTER = (
    "score_thr", "tile", "overlap", "batch_size", "max_value", "channel_order",
    "tissue", "amp", "tta", "class_names",
)  # fmt: skip


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    what = "run folder, exported file, or config followed by its checkpoint"
    add("model", metavar="MODEL", help=what)
    add("images", metavar="INPUT", nargs="+", help="image files, folders, patterns")
    add("-o", "--out", type=Path, required=True, help="folder")
    what = "what to write; default: %(default)s"
    usual = ["overlay", "geojson", "csv"]
    add("--save", nargs="+", choices=KINDS, default=usual, help=what)
    what = (
        "drop cells below this score; default: that of the best F1 in the model's "
        "validation, 0.5 where it had none"
    )
    add("--score-thr", type=float, help=what)
    what = "names in the files, in the model's order"
    add("--class-names", nargs="+", help=what)
    what = "neighbours are counted within this many pixels; default: %(default)s"
    add("--radius", type=float, default=100, help=what)
    what = "and within this many micrometres; default: %(default)s"
    add("--radius-um", type=float, default=50, help=what)
    _add_image_options(parser)
    _add_network_options(parser)
    args = parser.parse_args()
    if args.score_thr is None:
        args.score_thr = "auto"
    args.checkpoint = None
    if args.model.endswith(".py"):
        args.checkpoint = args.images.pop(0)
        if not args.images:
            parser.error("after a config come its checkpoint and the images")
    return args


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("images").add_argument
    what = "X,Y,WIDTH,HEIGHT"
    add("--region", type=_region, metavar=what, help="only this part, in pixels")
    what = "micrometres per pixel; default: what the file says"
    add("--mpp", type=float, help=what)
    what = (
        "how the files store colours: as their pixels look, true colours, or red and "
        "blue exchanged; default: %(default)s"
    )
    orders = ["auto", "rgb", "bgr"]
    add("--channel-order", choices=orders, default="auto", help=what)
    what = (
        "value that is white in 16-bit images, 4095 for a 12-bit camera; default: the "
        "model's, or 65535"
    )
    add("--max-value", type=int, help=what)
    what = "skip tiles without tissue; default: of slides and pyramids"
    add("--tissue", action=argparse.BooleanOptionalAction, help=what)


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("network").add_argument
    what = "side of a tile in pixels of the network; default: the model's, or 768"
    add("--tile", type=int, help=what)
    what = "pixels that tiles share; default: the model's, or a fourth of the tile"
    add("--overlap", type=int, help=what)
    add("--batch-size", type=int, default=1, help="tiles at once")
    add("--tta", action="store_true", help="test-time augmentation")
    add("--amp", action="store_true", help="half precision, on a GPU")
    add("--device", help="default: the GPU if there is one")
    what = "keep a cell that is detected in two classes in both; default: the better"
    add("--several-classes", action="store_true", help=what)
    what = "settings that replace the config's: key=value, lists as key=[a,b]"
    add("--cfg-options", nargs="+", action=DictAction, help=what)
    what = "who starts the processes that share the images"
    launchers = ["none", "pytorch", "slurm"]
    add("--launcher", choices=launchers, default="none", help=what)


def _region(text: str) -> tuple[int, ...]:
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,WIDTH,HEIGHT") from None
    return x, y, width, height


def main() -> None:
    """Check what can be checked, then predict image by image."""
    args = parse_args()
    check_kinds(args.save)
    images = find_images(args.images, leave_out=args.out)
    rank, world = join_processes(args.launcher)
    device = args.device
    if device is None and world > 1 and torch.cuda.is_available():
        local = int(os.environ["LOCAL_RANK"])
        device = f"cuda:{local % torch.cuda.device_count()}"
    segmenter = Segmenter(
        args.model,
        args.checkpoint,
        device=device,
        one_class=not args.several_classes,
        options=args.cfg_options,
        **{name: getattr(args, name) for name in _SEGMENTER},
    )
    written = {k: getattr(args, k) for k in ("mpp", "radius", "radius_um")}
    folder = ResultFolder(args.out, args.save, segmenter.class_names, written)
    if rank == 0:
        folder.begin(images, settings_of(args, segmenter))
    if world > 1:
        (images,) = exchange(images)[:1]
    failures = Run(args, segmenter, folder, rank, world).predict(images)
    rows = folder.write_summary()
    if world > 1:
        failures = [failure for part in exchange(failures) for failure in part]
    if rank == 0:
        report(folder, images, failures, rows, segmenter.score_thr)
    if failures:
        sys.exit(1)


def settings_of(args: argparse.Namespace, segmenter: Segmenter) -> dict:
    """The settings that determine the cells of an image."""
    given = ("region", "tta", "amp", "channel_order", "max_value")
    used = ("score_thr", "tile", "overlap", "tissue", "one_class")
    return {
        "model": segmenter.info["digest"],
        **{name: getattr(args, name) for name in given},
        **{name: getattr(segmenter, name) for name in used},
    }


def report(
    folder: ResultFolder,
    images: list[ImageInput],
    failures: list[str],
    rows: list[dict],
    score_thr: float,
) -> None:
    """Say what is where, and what failed."""
    done = f"{len(images) - len(failures)} of {len(images)} images"
    print(
        f"{done} are in {folder.root}, their counts in summary.csv; "
        f"score threshold {score_thr:.2f}"
    )
    if unknown := sum(row.get("mpp") is None for row in rows):
        print(
            f"The pixel size of {unknown} images is not known: they were predicted as "
            "they are, and densities per mm² are missing. The same command with --mpp "
            "adds those."
        )
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
