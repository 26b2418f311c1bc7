"""JSON files, read with bounds and written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from custom.errors import InputError
from custom.io.whole_file import whole_file

# Python needs some ten times as much memory as the text.
MAX_BYTES = 1 << 30


def read_json(path: str | Path) -> object:
    """Read a JSON file.

    Raises:
        InputError: The file is missing, larger than 1 GiB, no JSON in UTF-8, nested too
            deep, or holds NaN or Infinity, which JSON does not have.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(path, "larger than 1 GiB", "Divide it")
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", "Check the name") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"not JSON ({error})", "Export it again") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def write_json(data: object, path: str | Path, indent: int | None = None) -> None:
    """Write a JSON file, whole or not at all; with ``indent`` for people to read."""
    with whole_file(path) as part:
        part.write_text(json.dumps(data, indent=indent))
