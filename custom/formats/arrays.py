"""Arrays in ``.npy`` files, mapped and not read, never unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from custom.errors import InputError


def open_array(path: str | Path) -> np.ndarray:
    """Map an array of numbers; only what is indexed is read.

    Raises:
        InputError: The file is missing, is not ``.npy``, is empty, contradicts its
            header, or holds anything but numbers.
    """
    try:
        # A mapping checks the size that the header declares against the file's.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", "Check the name") from None
    except Exception as error:  # numpy raises several types
        raise InputError(
            path,
            f"not an array of numbers ({str(error)[:200]})",
            "Save one with numpy.save(..., allow_pickle=False)",
        ) from None
    if isinstance(array, np.memmap) and (
        array.offset + array.nbytes != Path(path).stat().st_size
    ):
        raise InputError(path, "it holds more than one array", "Save one")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        kind = getattr(array, "dtype", "several arrays")
        raise InputError(path, f"not an array of numbers but {kind}", "Save one")
    return array
