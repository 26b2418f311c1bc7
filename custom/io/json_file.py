"""Read JSON files up to a size, and write them atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from custom.errors import InputError
from custom.io.atomic import write_atomically

# Python needs some ten times as much memory as the text.
MAX_BYTES = 1 << 30
_REMEDY = "Export it again"


def read_json(
    path: str | Path, remedy: str = _REMEDY, max_bytes: int = MAX_BYTES
) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        remedy: What to do about a file that cannot be used.
        max_bytes: A larger file is refused before it is read.

    Raises:
        InputError: The file is missing, too large, not JSON in UTF-8, nested too deep,
            or holds NaN or Infinity, which JSON does not have.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            reason = f"it has {size} bytes, more than {max_bytes}"
            raise InputError(path, reason, "Divide it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", remedy) from None
    except OSError as error:
        raise InputError(path, f"it cannot be read ({error})", remedy) from None
    return parse_json(data, path, remedy)


def parse_json(data: bytes, source: str | Path, remedy: str = _REMEDY) -> Any:
    """The value of JSON text.

    Args:
        data: The text, in UTF-8.
        source: What errors name.
        remedy: What to do about them.

    Raises:
        InputError: See :func:`read_json`.
    """
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(source, f"not JSON ({error})", remedy) from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def write_json(data: object, path: str | Path, indent: int | None = None) -> None:
    """Write a JSON file atomically; with ``indent`` for people to read."""
    text = json.dumps(data, indent=indent)
    with write_atomically(path) as part:
        part.write_text(text if indent is None else text + "\n", encoding="utf-8")
