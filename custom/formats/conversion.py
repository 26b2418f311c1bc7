"""Convert a source image by image: in parallel, resumable, with a manifest.

``manifest.jsonl`` in the output has a line of JSON for each image: the source files
with their checksums, which instances were read, which were written, what was left out
and why. A second run skips the images whose line still fits. An image is written into a
hidden folder, its line is added to the manifest, and then its files are moved; so an
interrupted run leaves neither partial images nor files that the manifest does not list.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import SAFE_NAME, Annotated, Item, Source, Writer
from custom.io.checksums import file_checksum
from custom.io.names import IGNORE

MANIFEST = "manifest.jsonl"
_WORK = ".mmcell-part"
# The same conversion of the same files must give the same result; a change of what is
# written needs another number here.
_FORMAT = 1


@dataclass
class Summary:
    """What a conversion did: records of the manifest."""

    written: list[dict] = field(default_factory=list)
    skipped: list[dict] = field(default_factory=list)
    failed: list[dict] = field(default_factory=list)

    def total(self, key: str) -> Counter:
        """The sum of a table, such as ``written`` or ``dropped``, over all images."""
        tables = (Counter(r[key]) for r in [*self.written, *self.skipped])
        return sum(tables, Counter())


def convert(
    source: Source,
    writer: Writer,
    out: Path,
    classes: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
    jobs: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Summary:
    """Convert all images of a source.

    An image that cannot be used does not stop the others; it is listed in the result
    and in the manifest, and tried again by the next run.

    Args:
        source: The images.
        writer: Writes their files.
        out: Folder to write; new, empty, or of an earlier run.
        classes: New names of the classes, of all that occur; '' leaves a class out.
            None keeps the names.
        options: What else changes the result, for the manifest.
        jobs: Images converted at the same time, each in a process.
        progress: Wraps the records as they come, such as ``tqdm``.

    Raises:
        InputError: ``out`` holds other files, is being written by another process or
            cannot be written.
    """
    out = out.absolute()
    root = source.root if source.root.is_dir() else source.root.parent
    summary = Summary()
    table = classes and dict(classes)
    options = {"format": _FORMAT, "classes": table, **(options or {})}
    try:
        with _open_manifest(out) as (manifest, known), _work_folder(out) as folder:
            work = partial(_convert_one, root, writer, classes, options, folder, out)
            jobs_of = [(item, known.get(item.name)) for item in source.items]
            for record, skip in progress(_run(work, jobs_of, jobs)):
                if skip:
                    summary.skipped.append(record)
                    continue
                done = summary.failed if "error" in record else summary.written
                done.append(record)
                _commit(record, known, manifest, folder, out)
            if summary.written or summary.skipped:
                writer.finish(out, [*summary.written, *summary.skipped])
    except BrokenProcessPool:
        raise InputError(
            source.root,
            "the system killed a process that read it, perhaps for lack of memory",
            "Start again with --jobs 1: finished images are kept",
        ) from None
    except OSError as error:
        raise InputError(
            out, f"it cannot be written ({error.strerror})", "Check space and rights"
        ) from None
    return summary


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A new folder in the output; the locked manifest excludes other processes."""
    folder = out / _WORK
    shutil.rmtree(folder, ignore_errors=True)  # of a killed run
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _open_manifest(out: Path) -> Iterator[tuple[IO[str], dict[str, dict]]]:
    """The manifest to add lines to, locked, and its records so far, by image."""
    path = out / MANIFEST
    if out.exists() and not path.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(
            out, "it exists and was not made by this tool", "Name another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                out, "another conversion writes there", "Wait for it"
            ) from None
        file.seek(0)
        known = {}
        for line in file:
            # A kill may have cut the last line.
            if line.endswith("\n"):
                try:
                    record = json.loads(line)
                    known[record["name"]] = record
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        path, "a line of it is damaged", "Name another folder"
                    ) from None
            else:
                file.write("\n")
        yield file, known


def _commit(
    record: dict, known: dict, manifest: IO[str], folder: Path, out: Path
) -> None:
    """Make the finished files of an image visible, after its line in the manifest."""
    old = known.get(record["name"], {}).get("outputs", [])
    for name in record.get("outputs", []):
        if (out / name).exists() and name not in old:
            raise InputError(
                out / name, "it exists and was not made by this tool", "Remove it"
            )
    for path in (out / name for name in old):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    manifest.write(json.dumps(record) + "\n")
    manifest.flush()
    for name in record.get("outputs", []):
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / record["name"] / name, target)
    shutil.rmtree(folder / record["name"], ignore_errors=True)


def _run(
    work: Callable[[tuple], tuple[dict, bool]], jobs_of: Sequence[tuple], jobs: int
) -> Iterator[tuple[dict, bool]]:
    if jobs == 1:
        yield from map(work, jobs_of)
        return
    # A forked process has all modules already.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            yield from pool.map(work, jobs_of)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _convert_one(
    root: Path,
    writer: Writer,
    classes: Mapping[str, str] | None,
    options: dict,
    folder: Path,
    out: Path,
    job: tuple[Item, dict | None],
) -> tuple[dict, bool]:
    """Convert one image into ``folder/<name>``; the record, and whether it is old."""
    item, old = job
    record: dict = {"name": item.name, "options": options}
    folder = folder / item.name
    try:
        record["sources"] = [_describe(path, root) for path in item.files]
        if (
            old
            and "outputs" in old
            and all(old.get(key) == record[key] for key in record)
            and all((out / name).exists() for name in old["outputs"])
        ):
            return old, True
        annotated = item.read()
        record["size"] = list(annotated.size)
        record["found"] = dict(Counter(annotated.classes))
        _rename(annotated, classes)
        record |= annotated.facts
        if patient := item.patient:
            record["patient"] = patient
        record["written"] = dict(Counter(annotated.classes))
        folder.mkdir()
        record |= writer.write(item, annotated, folder)
        record["dropped"] = dict(annotated.dropped)
        record["outputs"] = _outputs(folder)
    except (InputError, MemoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = str(error) or "not enough memory"
        return {"name": item.name, "options": options, "error": reason}, False
    return record, False


def _outputs(folder: Path) -> list[str]:
    """The paths to move: whole folders of the image, or files in common folders."""
    outputs = []
    for path in sorted(folder.iterdir()):
        common = path.is_dir() and path.name != folder.name
        outputs += sorted(path.iterdir()) if common else [path]
    return [path.relative_to(folder).as_posix() for path in outputs]


def _rename(annotated: Annotated, classes: Mapping[str, str] | None) -> None:
    if classes is None:
        unsafe = [n for n in annotated.classes if not SAFE_NAME.fullmatch(n)]
        unsafe += [n for n in annotated.classes if n.lower() == "image"]
        if unsafe:
            raise InputError(
                annotated.source,
                f"its class {unsafe[0][:80]!r} cannot be the name of a file",
                "Give it another name with --classes",
            )
        return
    classes = {IGNORE: IGNORE, **classes}
    unknown = sorted(set(annotated.classes) - set(classes))
    if unknown:
        raise InputError(
            annotated.source,
            f"its class {unknown[0]!r} is not among {', '.join(classes)}",
            "Add it to --classes; NAME= leaves it out",
        )
    names = [classes[name] for name in annotated.classes]
    annotated.dropped.update(
        f"of class {name}" for name in annotated.classes if not classes[name]
    )
    annotated.masks = annotated.masks[np.array([bool(n) for n in names], bool)]
    annotated.classes = [n for n in names if n]


def _describe(path: Path, root: Path) -> dict:
    checksum = _checksum(path, path.stat().st_mtime_ns if path.exists() else 0)
    inside = path.is_relative_to(root)
    name = path.relative_to(root).as_posix() if inside else path.as_posix()
    return {"file": name, "bytes": path.stat().st_size, "sha256": checksum}


@lru_cache(maxsize=16)
def _checksum(path: Path, changed: int) -> str:
    """The checksum of a file; an array of many images is read once."""
    return file_checksum(path)
