"""The exception for bad input, and how a tool reports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path


class InputError(ValueError):
    """Something that the user gave cannot be used.

    Args:
        source: The file, folder or setting at fault.
        reason: What is wrong with it.
        remedy: What to do about it.
    """

    def __init__(self, source: str | Path, reason: str, remedy: str) -> None:
        self.source, self.reason, self.remedy = str(source), reason, remedy
        super().__init__(f"{source}: {reason}. {remedy}.")

    def __reduce__(self):
        # Exceptions of several arguments do not survive the way back from a
        # data-loader worker without this.
        return type(self), (self.source, self.reason, self.remedy)


def run_tool(main: Callable[[], object]) -> None:
    """Run a tool's ``main``; bad input ends it with one sentence and exit code 1."""
    try:
        check_environment()
        main()
    except InputError as error:
        sys.exit(f"error: {error}")


def check_environment() -> None:
    """Refuse environment variables that would be code in a config.

    MMEngine inserts the value of ``'{{$CELL_DATA_ROOT:data/hw3}}'`` into the config's
    text before Python compiles it.

    Raises:
        InputError: A variable ``CELL_*`` or ``NUCLEI_*`` could end the string that it
            is inserted into.
    """
    for name, value in os.environ.items():
        if name.startswith(("CELL_", "NUCLEI_")) and re.search(r"[\'\"\\\r\n]", value):
            raise InputError(
                name,
                f"{value!r} has a quote, a backslash or a line break",
                "Configs read this variable: rename the folder, or set data_root and "
                "split in a config",
            )
