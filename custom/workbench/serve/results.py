"""What was found in the last images, for a while."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from custom.inference.segmentation import Segmentation


class Results:
    """Results in memory under keys that nobody guesses.

    The oldest goes when there are too many, and each after a while. Nothing is written
    to disk. To be used from one thread.

    Args:
        most: How many are kept.
        seconds: For how long.
        clock: Seconds from any moment on.
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._kept: dict[str, tuple[float, Segmentation]] = {}

    def __len__(self) -> int:
        self._expire()
        return len(self._kept)

    def add(self, found: Segmentation) -> str:
        """Keep a result and return its key."""
        self._expire()
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        key = secrets.token_urlsafe(16)
        self._kept[key] = self._clock() + self._seconds, found
        return key

    def get(self, key: str) -> Segmentation | None:
        """The result of a key; None if there is none, or no longer."""
        self._expire()
        kept = self._kept.get(key)
        return kept and kept[1]

    def _expire(self) -> None:
        now = self._clock()
        self._kept = {k: v for k, v in self._kept.items() if v[0] > now}
