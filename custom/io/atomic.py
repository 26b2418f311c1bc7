"""Write a file atomically: readers find the old file or the new one, never a part."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: parts of killed processes stay
    fcntl = None  # type: ignore[assignment]

from custom.errors import InputError

# The errors of an OSError that only writing meets.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_PART = re.compile(r"\..+\.[0-9a-f]{16}\.mmcell-part", re.DOTALL)
# A file system takes names of up to 255 bytes.
_LONGEST_NAME = 200


def part_of(path: str | Path) -> Path:
    """A new path ``.<name>.<random>.mmcell-part`` beside a file or folder.

    The name is random, because process ids repeat among threads and containers. Its
    suffix is what :func:`remove_parts` knows this project's files by.
    """
    path = Path(path)
    name = path.name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(8)}.mmcell-part")


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Write beside a file, then rename.

    The new file is on the disk before the old one goes, so that this holds when the
    machine stops as well. Any number of threads, processes and machines may write the
    same file; the last one wins.

    Args:
        path: The file. Its folder is created if need be.

    Yields:
        The path to write to, an empty file; see :func:`part_of`. It becomes the file
        when the block ends without an exception, and is removed otherwise.

    Raises:
        InputError: The disk is full or not writable. The old file is kept.
    """
    path = Path(path)
    part, handle = part_of(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _lock(handle)
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    except OSError as error:
        # The block may have failed at another file, which is not ours to explain.
        ours = (str(part), str(path), str(path.parent))
        if error.errno not in _NO_ROOM and error.filename not in ours:
            raise
        raise InputError(
            path,
            f"it cannot be written ({error.strerror}); what was there before is "
            "untouched",
            "Free space, check the permissions, or write to another folder",
        ) from error
    finally:
        with suppress(NotADirectoryError):  # the folder is a file
            part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Whether an open file could be locked; the lock ends with its process."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):  # locked, or the system lacks such locks
        return False
    return True


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: str | Path) -> list[Path]:
    """Remove what killed processes left beside files; returns the removed paths.

    Only files named by this module are removed, and none that a process still writes.
    """
    removed = []
    for path in Path(folder).iterdir():
        if not _PART.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with suppress(FileNotFoundError):  # finished meanwhile
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed
