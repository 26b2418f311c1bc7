"""Segment the cells of images with a trained model and write what other programs open.

Examples::

    python tools/predict.py work_dirs/RUN slide.svs more/ "scans/**/*.tif" -o OUT
    python tools/predict.py model.pt slide.svs -o OUT --save geojson csv labels overlay
    python tools/predict.py CONFIG CHECKPOINT image.png -o OUT --score-thr 0 --save coco
    torchrun --nproc_per_node 4 tools/predict.py RUN slides -o OUT --launcher pytorch

A folder means all images in it, a TIFF of several pages one image for each. An image
larger than a tile is read and predicted tile by tile, so that memory follows the tile
and the cells that were found; several processes share the tiles of one slide. Images
of another known pixel size than the training's are brought to it, and results are in
the image's own pixels. Beside the files of each image OUT/summary.csv counts the cells
of all images.

The same command resumes a run that was stopped, a large image at its finished rows of
tiles. With another --save, --mpp or --class-names it writes files anew without the
network, as long as the network would see the same pixels. An image that fails does not
stop the others, is listed at the end, and makes the exit status 1. docs/predict.md says
more.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as tools/test.py

import torch
from mmengine.config import DictAction
from tqdm import tqdm

from custom.engine.distributed import slurm_environment
from custom.errors import InputError, run_tool
from custom.inference import Detections, Segmentation, Segmenter
from custom.inference.segmenter import TILE_SIZE, Scene
from custom.io.slide import open_image
from custom.workbench.predict.inputs import ImageInput, find_images
from custom.workbench.predict.outputs import (
    KINDS,
    check_kinds,
    check_size,
    write_files,
)
from custom.workbench.predict.result_folder import ResultFolder

# How long a process waits for the others at the end; slides take hours.
_PATIENCE = timedelta(days=30)
# An image of more tiles is shared among processes, and resumes at its rows of tiles.
_SHARED_TILES = 64


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
    _add_image_options(parser)
    _add_network_options(parser)
    args = parser.parse_args()
    args.checkpoint = None
    if args.model.endswith(".py"):
        args.checkpoint = args.images.pop(0)
        if not args.images:
            parser.error("after a config come its checkpoint and the images")
    return args


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channel-order",
        choices=["auto", "rgb", "bgr"],
        default="auto",
        help="how the files store colours: as their pixels look, true colours, or red "
        "and blue exchanged; default: %(default)s",
    )
    parser.add_argument(
        "--max-value",
        type=int,
        help="of a 16-bit image that is white, 4095 of a 12-bit camera; default: the "
        "model's, or 65535",
    )
    parser.add_argument(
        "--tissue",
        action=argparse.BooleanOptionalAction,
        help="leave out tiles without tissue; default: of slides and pyramids",
    )
    parser.add_argument(
        "--several-classes",
        action="store_true",
        help="keep a cell that is found in two classes in both; default: the better",
    )
    parser.add_argument(
        "--class-names", nargs="+", help="names in the files, in the model's order"
    )


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tile",
        type=int,
        help="side of a tile in pixels of the network; default: the model's, "
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
        max_value=args.max_value,
        channel_order=args.channel_order,
        tissue=args.tissue,
        one_class=not args.several_classes,
        options=args.cfg_options,
    )
    if args.class_names:
        rename_classes(segmenter, args.class_names)
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
        report(folder, images, failures, rows)
    if failures:
        sys.exit(1)


def rename_classes(segmenter: Segmenter, names: list[str]) -> None:
    """Call the model's classes by other names.

    Raises:
        InputError: There are more or fewer, or two are the same.
    """
    known = segmenter.class_names
    if len(names) != len(known) or len(set(names)) < len(names):
        raise InputError(
            "--class-names",
            f"{len(names)} names for {len(known)} classes ({', '.join(known)})",
            "Give one name for each, in this order",
        )
    segmenter.class_names = tuple(names)


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
    """What the cells depend on beside the image."""
    names = ("score_thr", "region", "tta", "amp", "channel_order", "max_value")
    return {
        "model": segmenter.info["digest"],
        "tile": segmenter.tile,
        "overlap": segmenter.overlap,
        "tissue": segmenter.tissue,
        "one_class": segmenter.one_class,
        **{name: getattr(args, name) for name in names},
    }


class Run:
    """The prediction of a list of images by one of several processes.

    Small images are dealt out to the processes. Of a large one each predicts every
    n-th row of tiles and keeps them in the folder; when all are there, the process to
    which the image belongs merges them. Rows do not depend on who predicts them, so
    that the results are those of one process to the byte.

    Args:
        args: The command line.
        segmenter: The model.
        folder: Where the results go.
        rank: This process.
        world: How many there are.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        segmenter: Segmenter,
        folder: ResultFolder,
        rank: int,
        world: int,
    ) -> None:
        self.args, self.segmenter, self.folder = args, segmenter, folder
        self.rank, self.world = rank, world
        self.failures: list[str] = []

    def predict(self, images: list[ImageInput]) -> list[str]:
        """Predict the images that are not finished; returns those that failed."""
        quiet = self.rank > 0 or len(images) == 1
        large = []
        for index, image in enumerate(tqdm(images, "images", delay=1, disable=quiet)):
            if self.folder.is_finished(image):
                continue
            mine = index % self.world == self.rank
            if self.world > 1 and self._is_large(image):
                large.append((image, mine))
                with suppress(Exception):  # its owner meets the same, and reports it
                    self._predict_rows(image)
            elif mine:
                self._try(image)
        if large:
            exchange([])  # all rows are there
        for image, mine in large:
            if mine:
                self._try(image)
        return self.failures

    def _is_large(self, image: ImageInput) -> bool:
        """Whether an image has so many tiles that the processes share it."""
        try:
            with open_image(image.path, page=image.page) as file:
                size = self.args.region[:1:-1] if self.args.region else file.size
                _, grid = self.segmenter.tiles(size, self.args.mpp or file.mpp)
        except Exception:  # its owner says what is wrong
            return False
        return len(grid) > _SHARED_TILES

    def _open(self, image: ImageInput) -> Scene:
        args = self.args
        return self.segmenter.open(
            image.path,
            region=args.region,
            page=image.page,
            mpp=args.mpp,
            name=image.name,
        )

    def _predict_rows(self, image: ImageInput) -> None:
        scene = self._open(image)
        check_size(self.args.save, str(image), scene.image.size)
        for row in range(self.rank, scene.rows, self.world):
            self._row(image, scene, row)

    def _row(self, image: ImageInput, scene: Scene, row: int) -> dict:
        """A row of tiles, predicted unless it is kept already."""
        if self.folder.has_strip(image, row):
            return self.folder.strip(image, row)
        (strip,) = self.segmenter.strips(scene, [row])
        self.folder.save_strip(image, row, strip)
        return strip

    def _segment(self, image: ImageInput) -> tuple[Segmentation, float]:
        """The cells of an image, and at which scale the network has seen it."""
        scene = self._open(image)
        check_size(self.args.save, str(image), scene.image.size)
        if (cells := self.folder.cells(image, scene.scale)) is not None:
            known = Detections.from_state(cells, scene.image.size)
            return self.segmenter.result(scene, known), scene.scale
        if len(scene.grid) <= _SHARED_TILES:
            strips = self.segmenter.strips(scene, progress=not self.rank)
            return self.segmenter.finish(scene, strips), scene.scale
        rows = tqdm(
            range(scene.rows), scene.name, delay=5, leave=False, disable=self.rank > 0
        )
        strips = [self._row(image, scene, row) for row in rows]
        return self.segmenter.finish(scene, strips), scene.scale

    def _try(self, image: ImageInput) -> None:
        """Predict an image and write its files, or note why that failed."""
        try:
            segmentation, scale = self._segment(image)
            files = [
                file
                for kind in self.args.save
                for file in write_files(
                    kind,
                    segmentation,
                    self.folder.base(image),
                    self.args.radius,
                    self.args.radius_um,
                )
            ]
            cells = segmentation.cells().state()
            self.folder.finish(image, segmentation.summary(), files, cells, scale)
        except InputError as error:
            if self.folder.holds(error.source):  # no image would fare better
                raise
            page = "" if str(image) == error.source else f"{image}: "
            self.failures.append(f"{page}{error}")
        except (MemoryError, torch.OutOfMemoryError) as error:
            remedy = "Use a smaller --tile or --batch-size, or a --region"
            self.failures.append(f"{image}: out of memory ({error}). {remedy}.")
        except Exception as error:  # hours of other images may follow
            traceback.print_exc()
            self.failures.append(f"{image}: {error!r}")
        else:
            tqdm.write(f"{image}: {describe(segmentation)}")


def describe(segmentation: Segmentation) -> str:
    """Counts, what the tissue mask has saved, and notes, in words."""
    counts = segmentation.counts()
    classes = ", ".join(f"{count} {name}" for name, count in counts.items())
    predicted, skipped, seconds = segmentation.tiles
    words = [f"{sum(counts.values())} cells ({classes})"]
    if skipped:
        saved = skipped * seconds / max(predicted, 1)
        words.append(
            f"{skipped} of {skipped + predicted} tiles without tissue left out, about "
            f"{saved:.0f} s saved"
        )
    return "; ".join([*words, *(f"warning: {note}" for note in segmentation.notes)])


def exchange(mine: list) -> list[list]:
    """What each process has, in their order; waits for all.

    Raises:
        InputError: A process has died.
    """
    gathered: list = [None] * torch.distributed.get_world_size()
    try:
        torch.distributed.all_gather_object(gathered, mine)
    except RuntimeError:
        raise InputError(
            "another process",
            "it has ended before its images were finished",
            "The same command again predicts what is missing",
        ) from None
    return gathered


def report(
    folder: ResultFolder,
    images: list[ImageInput],
    failures: list[str],
    rows: list[dict],
) -> None:
    """Say what is where, and what failed."""
    print(f"{len(images) - len(failures)} of {len(images)} images are in {folder.root}")
    if unknown := sum(row.get("mpp") is None for row in rows):
        print(
            f"The pixel size of {unknown} is not known: they were predicted as they "
            "are, without densities per mm². The same command with --mpp adds those."
        )
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
