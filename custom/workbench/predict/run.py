"""The prediction of a list of images by one of several processes."""

from __future__ import annotations

import os
import traceback
from argparse import Namespace
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from custom.engine.distributed import slurm_environment
from custom.errors import InputError
from custom.inference import Detections, Segmentation, Segmenter
from custom.inference.segmenter import Scene
from custom.io.slide import open_image
from custom.workbench.predict.inputs import ImageInput
from custom.workbench.predict.outputs import check_kinds, write_files
from custom.workbench.predict.result_folder import Arrays, ResultFolder

# How long a process waits for the others at the end; slides take hours.
_PATIENCE = timedelta(days=30)
# An image of more tiles is shared among processes, and resumes at its rows of tiles.
_SHARED_TILES = 64


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


def exchange(mine: list) -> list[list]:
    """Gather an object of each process, in rank order; waits for all.

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
            "Repeat the command to predict the remaining images",
        ) from None
    return gathered


class Run:
    """The prediction of a list of images by one of several processes.

    Small images are dealt out to the processes. Of a large one each predicts every
    n-th row of tiles and keeps them in the folder; when all are there, the process to
    which the image belongs merges them. Rows do not depend on who predicts them, so
    that the results are those of one process to the byte.

    Args:
        args: The command line of ``tools/predict.py``.
        segmenter: The model.
        folder: Where the results go.
        rank: This process.
        world: How many there are.
    """

    def __init__(
        self,
        args: Namespace,
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
                    scene = self._open(image)
                    for row in range(self.rank, scene.rows, self.world):
                        self._row(image, scene, row)
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
        scene = self.segmenter.open(
            image.path,
            region=self.args.region,
            page=image.page,
            mpp=self.args.mpp,
            name=image.name,
        )
        check_kinds(self.args.save, str(image), scene.image.size)
        return scene

    def _row(self, image: ImageInput, scene: Scene, row: int) -> Arrays:
        """A row of tiles; of a large image it is kept in the folder."""
        predict = partial(self.segmenter.strip, scene, row)
        if len(scene.grid) <= _SHARED_TILES:
            return predict()
        return self.folder.strip(image, row, predict)

    def _segment(self, image: ImageInput) -> tuple[Segmentation, float]:
        """The cells of an image, and at which scale the network has seen it."""
        scene = self._open(image)
        if (cells := self.folder.cells(image, scene.scale)) is not None:
            known = Detections.from_state(cells, scene.image.size)
            return self.segmenter.result(scene, known), scene.scale
        rows, quiet = range(scene.rows), self.rank > 0 or scene.rows == 1
        bar = tqdm(rows, scene.name, delay=5, leave=False, disable=quiet)
        strips = [self._row(image, scene, row) for row in bar]
        return self.segmenter.finish(scene, strips), scene.scale

    def _try(self, image: ImageInput) -> None:
        """Predict an image and write its files, or note why that failed."""
        args, base = self.args, self.folder.base(image)
        try:
            segmentation, scale = self._segment(image)
            files = []
            for kind in args.save:
                files += write_files(
                    kind, segmentation, base, args.radius, args.radius_um
                )
            cells = segmentation.cells().state()
            self.folder.finish(image, segmentation.summary(), files, cells, scale)
        except InputError as error:
            if self.folder.root.absolute() in Path(error.source).absolute().parents:
                raise  # no image would fare better
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
