"""Records in a run's folder: command, machine, code, data."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.utils.dl_utils import collect_env

from custom.datasets.splits import Split
from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.io.checksums import file_checksums
from custom.io.json_file import read_json, write_json
from custom.transforms.loading import image_loader

RUN, DATA = "run.json", "data.json"
CHANGES = "uncommitted.diff"


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write into the work directory what is needed to repeat and to verify the run.

    * ``split.json``: the names of the images, so that the run can be tested and resumed
      on the same split even if the folder of images changes.
    * ``run.json``: the command, the machine, all packages, the git state, the number of
      images; ``resumed`` lists the same for each time the run was resumed.
    * ``uncommitted.diff``: what differed from the commit, if anything did.
    * ``data.json``: the SHA-256 of every image and label file of the split, by names
      relative to the data root.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the data with those of the run before a resumed run uses them.

        Raises:
            InputError: A file differs from the one that the run began with.
        """
        if runner._resume:
            _in_first_process(_record_data, runner)

    def before_train(self, runner) -> None:
        """Write the records.

        Raises:
            InputError: A file of the data or the folder cannot be read or written.
        """
        if not runner._resume:
            _in_first_process(_record_data, runner)
        _in_first_process(_record_run, runner)


def _in_first_process(action: Callable, runner) -> None:
    """Call an action in the first process; its InputError ends all processes.

    Raises:
        InputError: The action raised it.
    """
    errors: list[InputError | None] = [None]
    if is_main_process():
        try:
            action(runner)
        except InputError as error:
            errors = [error]
    broadcast_object_list(errors)
    if errors[0] is not None:
        raise errors[0]


def _record_run(runner) -> None:
    """Write ``split.json``, ``uncommitted.diff`` and ``run.json``."""
    work_dir = Path(runner.work_dir)
    dataset = next(_labelled(runner.train_dataloader.dataset), None)
    split: Split | None = getattr(dataset, "split", None)
    if split is not None:
        split.save(work_dir / "split.json")
    git, changes = _git_state()
    if changes:
        with write_atomically(work_dir / CHANGES) as part:
            part.write_text(changes)
    environment = collect_env()
    environment.pop("PyTorch compiling details", None)
    packages = {d.name: d.version for d in metadata.distributions()}
    record = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "environment": {name: str(value) for name, value in environment.items()},
        "packages": dict(sorted(packages.items())),
        "git": git,
        "seed": runner.seed,
        "world_size": runner.world_size,
        "data_root": str(Path(getattr(dataset, "data_root", "")).resolve()),
        "train_images": len(runner.train_dataloader.dataset),
        "split": split.name if split else None,
        "channel_order": getattr(image_loader(dataset), "channel_order", None),
    }
    path = work_dir / RUN
    if runner._resume and path.exists():
        first = read_json(path)
        first.setdefault("resumed", []).append(record)
        record = first
    write_json(record, path, indent=1)


def _labelled(dataset) -> Iterator:
    """The data sets that know their files, also those inside wrappers."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if hasattr(dataset, "files"):
        yield dataset
    else:
        for part in inner:
            if part is not None:
                yield from _labelled(part)


def _record_data(runner) -> None:
    """Write ``data.json``.

    Raises:
        InputError: The run is resumed, and a file differs from the recorded one.
    """
    path, files = Path(runner.work_dir, DATA), {}
    loaders = [runner.train_dataloader]
    loaders += [runner.val_dataloader] if runner.val_loop is not None else []
    for loader in loaders:
        for dataset in _labelled(loader.dataset):
            files.update(dataset.files())
    start = time.perf_counter()
    checksums = file_checksums(files)
    seconds = time.perf_counter() - start
    known = read_json(path)["sha256"] if runner._resume and path.exists() else {}
    for name, checksum in checksums.items():
        if known.get(name, checksum) != checksum:
            raise InputError(
                files[name],
                "it has changed since the run began",
                "Restore the old file, or start a new run in another --work-dir",
            )
    record = {"seconds": round(seconds, 2), "sha256": {**known, **checksums}}
    write_json(record, path, indent=1)
    print_log(f"Checksums of {len(checksums)} data files: {seconds:.1f} s", "current")


def _git_state() -> tuple[dict | None, str]:
    """Commit, changed files and their diff; None and no diff outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
        ).stdout.strip()

    try:
        state = {
            "commit": git("rev-parse", "HEAD"),
            "changed_files": git("status", "--porcelain").splitlines(),
        }
        return state, git("diff", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None, ""
