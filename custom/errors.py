"""The exception for bad input, and how a tool reports it."""

from __future__ import annotations

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
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
