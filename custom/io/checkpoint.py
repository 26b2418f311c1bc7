"""Checkpoint files: read without running code, written atomically."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray

from custom.errors import InputError
from custom.io.atomic import write_atomically

_STATISTICS = ("min", "max", "current", "mean")


def _statistic(owner: type, name: str) -> Callable:
    """Replacement for ``getattr`` in a pickle: a history's own functions only.

    MMEngine pickles them with every history, by ``getattr(HistoryBuffer, "mean")``; the
    real ``getattr`` would open all of Python to the file.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(
            f"Unsupported global: GLOBAL getattr of {name!r} was not an allowed global"
        )
    return getattr(HistoryBuffer, name)


# What MMEngine puts into checkpoints beside tensors and plain Python: the history of
# the scalars, and numpy's numbers and arrays (numpy 1 and 2 name the constructors
# differently).
_ALLOWED = [
    HistoryBuffer,
    (_statistic, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    *(
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
]


def read_checkpoint(
    path: str | Path, map_location: str | torch.device | Callable | None = "cpu"
) -> Any:
    """Load a file of ``torch.save`` with ``weights_only=True``.

    Beside tensors and plain Python, what MMEngine itself stores may be in it.

    Raises:
        InputError: The file does not exist, is damaged, or is a pickle that would run
            code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(path, "the checkpoint does not exist", "Check the path")
    # torch itself does not look at the check sums.
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise _damaged(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location, weights_only=True)
    except (PermissionError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # any error that a pickle causes
        wanted = re.search(r"GLOBAL (.+?)(?: was not an allowed| whose)", str(error))
        if wanted is None:
            raise _damaged(path) from error
        raise InputError(
            path,
            f"it is more than weights: loading it would call {wanted[1]}, and so could "
            "run any code",
            "Do not use it unless you trust where it comes from; docs/reliability.md "
            "says how to make a file of its weights alone",
        ) from None


def _damaged(path: Path) -> InputError:
    return InputError(
        path,
        "it is damaged, or not a PyTorch file",
        "Take another checkpoint; --resume without a path finds the newest good one",
    )


def write_checkpoint(path: str | Path, data: Any) -> None:
    """Save with ``torch.save``, atomically.

    Raises:
        InputError: The file cannot be written. The old file is kept.
    """
    with write_atomically(path) as part:
        torch.save(data, part)
        check_written(part, path)


def check_written(part: Path, path: str | Path) -> None:
    """Read a new checkpoint back before it takes its place at ``path``.

    Raises:
        InputError: The file differs from what was written.
    """
    if not is_whole(part):
        raise InputError(
            path,
            "the new checkpoint does not read back as it was written",
            "The old one is untouched; check the disk",
        )


def is_whole(path: str | Path) -> bool:
    """Whether a file is an undamaged zip archive, as ``torch.save`` writes it.

    Every byte is read and compared to the check sums in it (0.3 s for 150 MB).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged header causes any error
        return False
