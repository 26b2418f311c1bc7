"""Segment the cells of images with a trained model and write what other programs open.

Examples::

    python tools/predict.py work_dirs/RUN slide.svs more/ "scans/**/*.tif" -o OUT
    python tools/predict.py model.pt slide.svs -o OUT --save geojson csv labels overlay
    python tools/predict.py CONFIG CHECKPOINT image.png -o OUT --score-thr 0 --save coco
    torchrun --nproc_per_node 4 tools/predict.py RUN slides -o OUT --launcher pytorch

A folder means all images in it, a TIFF of several pages one image for each. An image
larger than a tile is read and predicted tile by tile, so that memory follows the tile
and the cells that were found. Beside the files of each image OUT/summary.csv counts the
cells of all images. Images that are finished already are skipped, so the same command
goes on where it was stopped; an image that fails does not stop the others, is listed at
the end, and makes the exit status 1. docs/predict.md says more.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as tools/test.py

import torch
from mmengine.config import DictAction
from tqdm import tqdm

from custom.engine.distributed import slurm_environment
from custom.errors import InputError, run_tool
from custom.inference import Segmenter
from custom.inference.segmenter import TILE_SIZE
from custom.io.image_inputs import ImageInput, find_images
from custom.workbench.predict.outputs import KINDS, check_kinds, write_files
from custom.workbench.predict.result_folder import ResultFolder

# How long a process waits for the others at the end; slides take hours.
_PATIENCE = timedelta(days=30)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="run folder, exported file, or config followed by its checkpoint",
    )
    parser.add_argument(
        "images", metavar="INPUT", nargs="+", help="image files, folders, patterns"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder")
    parser.add_argument(
        "--save",
        nargs="+",
        choices=KINDS,
        default=["overlay", "geojson", "csv"],
        help="what to write; default: %(default)s",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.5,
        help="leave out cells below this score; default: %(default)s",
    )
    parser.add_argument(
        "--region",
        type=_region,
        metavar="X,Y,WIDTH,HEIGHT",
        help="only this part of each image, in pixels",
    )
    parser.add_argument(
        "--mpp", type=float, help="micrometres per pixel; default: what the file says"
    )
    parser.add_argument(
        "--tile",
        type=int,
        help="side of a tile in pixels, a larger image is cut; default: the model's, "
        f"or {TILE_SIZE}",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        help="pixels that tiles share; default: the model's, or a fourth of the tile",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="tiles at once")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    parser.add_argument("--amp", action="store_true", help="half precision, on a GPU")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.add_argument(
        "--radius",
        type=float,
        default=100,
        help="neighbours are counted within this many pixels; default: %(default)s",
    )
    parser.add_argument(
        "--radius-um",
        type=float,
        default=50,
        help="and within this many micrometres; default: %(default)s",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that replace the config's: key=value, lists as key=[a,b]",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="who starts the processes that share the images",
    )
    args = parser.parse_args()
    args.checkpoint = None
    if args.model.endswith(".py"):
        args.checkpoint = args.images.pop(0)
        if not args.images:
            parser.error("after a config come its checkpoint and the images")
    return args


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
        amp=args.amp,
        batch_size=args.batch_size,
        score_thr=args.score_thr,
        tile=args.tile,
        overlap=args.overlap,
        tta=args.tta,
        options=args.cfg_options,
    )
    folder = ResultFolder(args.out, args.save, segmenter.class_names)
    if rank == 0:
        folder.begin(images, settings_of(args, segmenter))
    if world > 1:
        (images,) = exchange(images)[:1]
    # Each process has its own images by their order, whatever is finished already: they
    # need not talk to each other, and one that dies leaves only its own undone.
    own = images[rank::world]
    failures = predict(args, segmenter, folder, own, quiet=rank > 0)
    folder.write_summary()
    if world > 1:
        failures = [failure for part in exchange(failures) for failure in part]
    if rank == 0:
        report(folder, images, failures)
    if failures:
        sys.exit(1)


def join_processes(launcher: str) -> tuple[int, int]:
    """This process's number and how many there are.

    They wait for each other at the start, and at the end, so that none is stopped by
    its launcher because another one has listed a bad image and gone.
    """
    if launcher == "none":
        return 0, 1
    if launcher == "slurm":
        os.environ.update(slurm_environment())
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def settings_of(args: argparse.Namespace, segmenter: Segmenter) -> dict:
    """What results depend on beside the image."""
    names = ("score_thr", "region", "mpp", "tta", "amp", "radius", "radius_um")
    return {
        "model": segmenter.info["digest"],
        "tile": segmenter.tile,
        "overlap": segmenter.overlap,
        **{name: getattr(args, name) for name in names},
    }


def predict(
    args: argparse.Namespace,
    segmenter: Segmenter,
    folder: ResultFolder,
    images: list[ImageInput],
    quiet: bool,
) -> list[str]:
    """Predict the images that are not finished; returns those that failed, and why."""
    failures: list[str] = []
    bar = tqdm(images, unit="image", delay=1, disable=quiet or len(images) == 1)
    for image in bar:
        if folder.is_finished(image):
            continue
        try:
            found = segmenter(
                image.path,
                region=args.region,
                page=image.page,
                mpp=args.mpp,
                name=image.name,
                progress=not quiet,
            )
            files = [
                file
                for kind in args.save
                for file in write_files(
                    kind, found, folder.base(image), args.radius, args.radius_um
                )
            ]
            folder.finish(image, found.summary(), files)
        except InputError as error:
            if folder.holds(error.source):  # no image would fare better
                raise
            page = "" if str(image) == error.source else f"{image}: "
            failures.append(f"{page}{error}")
        except (MemoryError, torch.OutOfMemoryError) as error:
            remedy = "Use a smaller --tile or --batch-size, or a --region"
            failures.append(f"{image}: out of memory ({error}). {remedy}.")
        except Exception as error:  # hours of other images may follow
            traceback.print_exc()
            failures.append(f"{image}: {error!r}")
        else:
            tqdm.write(f"{image}: {describe(found.counts())}")
    return failures


def describe(counts: dict[str, int]) -> str:
    """Counts in words."""
    classes = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{sum(counts.values())} cells ({classes})"


def exchange(mine: list) -> list[list]:
    """What each process has, in their order; waits for all.

    Raises:
        InputError: A process has died.
    """
    found: list = [None] * torch.distributed.get_world_size()
    try:
        torch.distributed.all_gather_object(found, mine)
    except RuntimeError:
        raise InputError(
            "another process",
            "it has ended before its images were finished",
            "The same command again predicts what is missing",
        ) from None
    return found


def report(folder: ResultFolder, images: list[ImageInput], failures: list[str]) -> None:
    """Say what is where, and what failed."""
    print(f"{len(images) - len(failures)} of {len(images)} images are in {folder.root}")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
