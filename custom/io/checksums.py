"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from custom.errors import InputError

_BLOCK = 1 << 20


def file_checksum(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(
            path, f"it cannot be read ({error.strerror})", "Put it back"
        ) from None
    return digest.hexdigest()


def file_checksums(paths: Mapping[str, str | Path]) -> dict[str, str]:
    """:func:`file_checksum` of many files, in threads: hashing releases the GIL."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(file_checksum, paths.values()), strict=True))
