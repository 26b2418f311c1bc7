"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from custom.errors import InputError

# The errors of an OSError that only writing meets.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write beside a file and rename: readers find the old file or the new one.

    The new one is on the disk before the old one goes, so that this holds when the
    machine stops as well.

    Args:
        path: The file, in a folder that is made if need be.

    Yields:
        The path to write to, with the same suffix. It becomes the file when the block
        ends without an exception, and is removed otherwise.

    Raises:
        InputError: There is no room or no permission. The old file is still there.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
            "Free space, see to the permissions, or write to another folder",
        ) from error
    finally:
        with suppress(NotADirectoryError):  # the folder is a file
            part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: str | Path) -> list[Path]:
    """Remove what killed processes left beside files; returns what it was.

    Only for a folder that no other process writes to.
    """
    parts = [p for p in Path(folder).iterdir() if re.match(r"\.\d+\..", p.name)]
    for part in parts:
        part.unlink()
    return parts
